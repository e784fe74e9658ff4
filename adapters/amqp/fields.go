package amqp

import (
	"math"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// fields reads what AMQP's fields are made of. What is too short reads as
// zeros. Texts are parts of s, and not copied.
type fields struct{ s string }

func (r *fields) take(n int) string {
	n = max(0, min(n, len(r.s)))
	taken := r.s[:n]
	r.s = r.s[n:]
	return taken
}

// uint reads a number of n bytes.
func (r *fields) uint(n int) (v uint64) {
	for _, b := range []byte(r.take(n)) {
		v = v<<8 | uint64(b)
	}
	return v
}

func (r *fields) short() string { return r.take(int(r.uint(1))) }

func (r *fields) long() string { return r.take(int(r.uint(4))) }

// field reads the name of a table's field, and its kind.
func (r *fields) field() (name string, kind byte) { return r.short(), byte(r.uint(1)) }

// maxNesting is how deep lists and tables within each other are read.
const maxNesting = 64

// value reads what a field can have, as the types that amqp091 makes of it.
// There is no telling where one of an unknown kind ends: it is the last one.
func (r *fields) value(kind byte, nesting int) any {
	switch kind {
	case 'S':
		return r.long()
	case 't':
		return r.uint(1) != 0
	case 'b':
		return int8(r.uint(1))
	case 'B':
		return uint8(r.uint(1))
	case 's':
		return int16(r.uint(2))
	case 'u':
		return uint16(r.uint(2))
	case 'I':
		return int32(r.uint(4))
	case 'i':
		return uint32(r.uint(4))
	case 'l', 'L':
		return int64(r.uint(8))
	case 'f':
		return math.Float32frombits(uint32(r.uint(4)))
	case 'd':
		return math.Float64frombits(r.uint(8))
	case 'D':
		return amqp091.Decimal{Scale: uint8(r.uint(1)), Value: int32(r.uint(4))}
	case 'T':
		return time.Unix(int64(r.uint(8)), 0)
	case 'x':
		return []byte(r.long())
	case 'A':
		in, list := fields{r.long()}, []any{}
		for len(in.s) > 0 && nesting < maxNesting {
			list = append(list, in.value(byte(in.uint(1)), nesting+1))
		}
		return list
	case 'F':
		in, table := fields{r.long()}, amqp091.Table{}
		for len(in.s) > 0 && nesting < maxNesting {
			name, kind := in.field()
			table[name] = in.value(kind, nesting+1)
		}
		return table
	case 'V':
	default:
		r.s = ""
	}
	return nil
}
