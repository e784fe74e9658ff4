// Package protobuf is the codec for Protocol Buffers messages. It is a module
// of its own so that only its users depend on the protobuf module:
//
//	go get github.com/motifmq/motif/patterns/protobuf
//
//	bus := patterns.New(driver, patterns.WithCodec(protobuf.Codec{}))
//	orders := patterns.NewWorkQueue[*pb.Order](bus, "orders")
package protobuf

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/motifmq/motif/patterns"
)

// Codec encodes proto.Message in the binary format, as application/protobuf.
// Payload types are pointers to generated messages. The zero value is ready.
type Codec struct{}

var _ patterns.Codec = Codec{}

// ContentType returns application/protobuf.
func (Codec) ContentType() string { return "application/protobuf" }

// Encode encodes a proto.Message.
func (Codec) Encode(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("protobuf codec: %T is not a proto.Message", v)
	}
	return proto.Marshal(m)
}

// Decode decodes into a pointer to a proto.Message, which may be nil, or into
// a proto.Message.
func (Codec) Decode(data []byte, v any) error {
	if m, ok := v.(proto.Message); ok {
		return proto.Unmarshal(data, m)
	}
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() || p.Elem().Kind() != reflect.Pointer {
		return fmt.Errorf("protobuf codec: %T does not point to a proto.Message", v)
	}
	fresh := reflect.New(p.Elem().Type().Elem())
	m, ok := fresh.Interface().(proto.Message)
	if !ok {
		return fmt.Errorf("protobuf codec: %T does not point to a proto.Message", v)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return err
	}
	p.Elem().Set(fresh)
	return nil
}
