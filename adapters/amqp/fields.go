package amqp

import (
	"math"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// fieldReader reads what AMQP's fields are made of. What is too short reads as
// zeros. Texts are parts of s, and not copied.
type fieldReader struct{ s string }

func (r *fieldReader) next(n int) string {
	n = max(0, min(n, len(r.s)))
	taken := r.s[:n]
	r.s = r.s[n:]
	return taken
}

// uint reads a number of n bytes.
func (r *fieldReader) uint(n int) (v uint64) {
	for _, b := range []byte(r.next(n)) {
		v = v<<8 | uint64(b)
	}
	return v
}

func (r *fieldReader) shortString() string { return r.next(int(r.uint(1))) }

func (r *fieldReader) longString() string { return r.next(int(r.uint(4))) }

// field reads the name of a table's field, and its kind.
func (r *fieldReader) field() (name string, kind byte) { return r.shortString(), byte(r.uint(1)) }

// maxNesting is how deep lists and tables within each other are read.
const maxNesting = 64

// value reads what a field can have, as the types that amqp091 makes of it.
// There is no telling where one of an unknown kind ends: it is the last one.
func (r *fieldReader) value(kind byte, nesting int) any {
	switch kind {
	case 'S':
		return r.longString()
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
		return []byte(r.longString())
	case 'A':
		in, list := fieldReader{r.longString()}, []any{}
		for len(in.s) > 0 && nesting < maxNesting {
			list = append(list, in.value(byte(in.uint(1)), nesting+1))
		}
		return list
	case 'F':
		in, table := fieldReader{r.longString()}, amqp091.Table{}
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
