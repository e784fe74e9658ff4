package frame

import (
	"math"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// Reader reads the fields that AMQP's methods, properties and tables are made of from the front of
// S. What is cut short reads as zero values. Strings are parts of S, not copies.
type Reader struct{ S string }

// Next reads n bytes, or what is left if that is less.
func (r *Reader) Next(n int) string {
	n = max(0, min(n, len(r.S)))
	taken := r.S[:n]
	r.S = r.S[n:]
	return taken
}

// Uint reads an unsigned number of n bytes.
func (r *Reader) Uint(n int) (v uint64) {
	for _, b := range []byte(r.Next(n)) {
		v = v<<8 | uint64(b)
	}
	return v
}

// ShortString reads a string of at most 255 bytes.
func (r *Reader) ShortString() string { return r.Next(int(r.Uint(1))) }

// LongString reads a string, or any other value that its length precedes.
func (r *Reader) LongString() string { return r.Next(int(r.Uint(4))) }

// Field reads the name and the type of a table's field.
func (r *Reader) Field() (name string, kind byte) { return r.ShortString(), byte(r.Uint(1)) }

// maxNesting is how deep lists and tables within each other are read.
const maxNesting = 64

// Value reads a field's value, as the type that amqp091 makes of it. Where a value of an unknown
// type ends cannot be known: it is taken for the last one.
func (r *Reader) Value(kind byte) any { return r.value(kind, 0) }

func (r *Reader) value(kind byte, nesting int) any {
	switch kind {
	case 'S':
		return r.LongString()
	case 't':
		return r.Uint(1) != 0
	case 'b':
		return int8(r.Uint(1))
	case 'B':
		return uint8(r.Uint(1))
	case 's':
		return int16(r.Uint(2))
	case 'u':
		return uint16(r.Uint(2))
	case 'I':
		return int32(r.Uint(4))
	case 'i':
		return uint32(r.Uint(4))
	case 'l', 'L':
		return int64(r.Uint(8))
	case 'f':
		return math.Float32frombits(uint32(r.Uint(4)))
	case 'd':
		return math.Float64frombits(r.Uint(8))
	case 'D':
		return amqp091.Decimal{Scale: uint8(r.Uint(1)), Value: int32(r.Uint(4))}
	case 'T':
		return time.Unix(int64(r.Uint(8)), 0)
	case 'x':
		return []byte(r.LongString())
	case 'A':
		in, list := Reader{S: r.LongString()}, []any{}
		for len(in.S) > 0 && nesting < maxNesting {
			list = append(list, in.value(byte(in.Uint(1)), nesting+1))
		}
		return list
	case 'F':
		in, table := Reader{S: r.LongString()}, amqp091.Table{}
		for len(in.S) > 0 && nesting < maxNesting {
			name, kind := in.Field()
			table[name] = in.value(kind, nesting+1)
		}
		return table
	case 'V':
	default:
		r.S = ""
	}
	return nil
}
