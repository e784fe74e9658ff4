package patterns

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// Types are the Go types of the messages that share a queue or an exchange, each under the name
// that travels with it as AMQP's property type. T is what they have in common: any, or an interface
// that all of them implement, so that nothing else can be sent.
//
//	var events = patterns.NewTypes[any](
//		patterns.Named[OrderPlaced]("order.placed"),
//		patterns.Named[OrderCancelled]("order.cancelled"),
//	)
//
//	queue := patterns.NewWorkQueue[any](bus, "orders", patterns.WithTypes(events))
//	err := queue.Send(ctx, OrderPlaced{...}) // of type order.placed
//
// Types do not change and are safe for concurrent use.
type Types[T any] struct{ set *typeSet }

// NewTypes returns the types of some messages. What is wrong with them, such as a type or a name
// that is there twice, is reported as adapters.ErrInvalid by [Types.Handler] and by whatever is
// given them.
func NewTypes[T any](types ...NamedType) *Types[T] {
	s := &typeSet{byName: map[string]NamedType{}, names: map[reflect.Type]string{}}
	s.err = s.add(types)
	if s.err == nil {
		s.err = s.fit(reflect.TypeFor[T]())
	}
	return &Types[T]{s}
}

// NamedType is a Go type and the name that its messages have, as [Named] and [Upgrade] return it.
type NamedType struct {
	name   string
	wire   reflect.Type // what the payload is
	value  reflect.Type // what it becomes: the same, or what it is upgraded to
	old    bool         // it is received only
	decode func(decode func(v any) error) (value any, err error)
}

// Named gives V a name: what is sent of it is of this type, and what comes of this type is decoded
// into it. The name is 1 to 255 bytes. A codec may want V to be a pointer, as Protocol Buffers
// does.
func Named[V any](name string) NamedType {
	v := reflect.TypeFor[V]()
	return NamedType{name: name, wire: v, value: v, decode: func(decode func(any) error) (any, error) {
		var value V
		err := decode(&value)
		return value, err
	}}
}

// Upgrade makes New of what comes under a name that is no longer sent, such as an earlier version
// of a type, or its name before it was given another. New must be [Named] too. The name "" is for
// what comes without a type, as from before there were several.
//
//	patterns.Upgrade("order.placed.v1", func(o OrderPlacedV1) (OrderPlaced, error) {
//		return OrderPlaced{Dish: o.Dish, Currency: "THB"}, nil
//	})
//
// A message for which upgrade fails or panics does not decode: it goes to the dead letters at once.
// upgrade is called by several workers at a time.
func Upgrade[Old, New any](name string, upgrade func(Old) (New, error)) NamedType {
	t := NamedType{name: name, wire: reflect.TypeFor[Old](), value: reflect.TypeFor[New](), old: true}
	if upgrade == nil {
		return t
	}
	t.decode = func(decode func(any) error) (_ any, err error) {
		var old Old
		if err := decode(&old); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				err = fmt.Errorf("%w: upgrading type %q: %w", ErrCodec, clip(name, 64), err)
			}
		}()
		defer recovered(&err)
		return upgrade(old)
	}
	return t
}

// UnknownTypeError says that a message came of a type that is not among the [Types] of its queue.
// It is an [ErrCodec]: the message is not tried again, but goes to the dead letters.
type UnknownTypeError struct {
	Type  string   // as the message says; "" if it does not
	Known []string // sorted
}

func (e *UnknownTypeError) Error() string {
	const most = 8
	known := make([]string, 0, most+1)
	for _, name := range e.Known {
		if len(known) == most {
			known = append(known, fmt.Sprintf("%d more", len(e.Known)-most))
			break
		}
		known = append(known, strconv.Quote(clip(name, 64)))
	}
	what := fmt.Sprintf("type %q is not known", clip(e.Type, 64))
	if e.Type == "" {
		what = "a message without a type is not known"
	}
	return fmt.Sprintf("motif: %s, only %s are", what, strings.Join(known, ", "))
}

// Is reports that it is an [ErrCodec].
func (e *UnknownTypeError) Is(target error) bool { return target == ErrCodec }

// TypesOption is what [WithTypes] returns; it is a WorkQueueOption and an ExchangeOption.
type TypesOption struct{ set *typeSet }

// WithTypes has the messages of a queue or an exchange be of several types. What is sent must be
// one of them, and its name becomes the message's [Type]; what comes is decoded by its type, and
// goes to the dead letters, with an [*UnknownTypeError] as the reason, if that is none of them (see
// [OnUnknownType]). All that the queue does is by type: Get, Waiting, and its Dead too.
//
// The pattern's own payload is any, or an interface that all the types implement, or one of them.
// A batch of several types is sent in runs of one type, in its order.
func WithTypes[T any](t *Types[T]) TypesOption {
	if t == nil {
		return TypesOption{}
	}
	return TypesOption{t.set}
}

func (o TypesOption) apply(c *encodingConfig) error {
	switch {
	case o.set == nil:
		return invalid("WithTypes of nil")
	case c.types != nil:
		return givenTwice("WithTypes")
	}
	c.types = o.set
	return o.set.err
}

func (o TypesOption) applyQueue(c *queueConfig) error       { return o.apply(&c.encoding) }
func (o TypesOption) applyExchange(c *encodingConfig) error { return o.apply(c) }

// TypeHandler is a handler for messages of one type, as [On] returns it.
type TypeHandler struct {
	value reflect.Type
	call  func(ctx context.Context, v any) error // nil for a nil handler
}

// On makes handler handle the messages of type V, for [Types.Handler].
func On[V any](handler Handler[V]) TypeHandler {
	h := TypeHandler{value: reflect.TypeFor[V]()}
	if handler != nil {
		h.call = func(ctx context.Context, v any) error { return handler(ctx, v.(V)) }
	}
	return h
}

// Handler makes one handler of a handler for each type, for the Work or Subscribe method of a
// pattern that has the types. It returns adapters.ErrInvalid if a type has no handler or two, or a
// handler is for what is not among the types.
func (t *Types[T]) Handler(handlers ...TypeHandler) (Handler[T], error) {
	if t == nil {
		return nil, invalid("nil Types")
	}
	if t.set.err != nil {
		return nil, t.set.err
	}
	byType := make(map[reflect.Type]func(context.Context, any) error, len(handlers))
	for _, h := range handlers {
		_, twice := byType[h.value]
		switch {
		case h.value == nil || h.call == nil:
			return nil, invalid("nil handler for %v", h.value)
		case t.set.names[h.value] == "":
			return nil, invalid("a handler for %v, which is not among the types %s", h.value, t.set)
		case twice:
			return nil, invalid("two handlers for %v", h.value)
		}
		byType[h.value] = h.call
	}
	for value, name := range t.set.names {
		if byType[value] == nil {
			return nil, invalid("no handler for %v, which is type %q", value, clip(name, 64))
		}
	}
	return func(ctx context.Context, v T) error {
		handle := byType[reflect.TypeOf(v)]
		if handle == nil { // only if it was called by somebody else
			return Reject(fmt.Errorf("no handler for a %T", v))
		}
		return handle(ctx, v)
	}, nil
}

// OnUnknownType has f handle the messages whose type is not among those of [WithTypes], as they
// came. Its error counts as a handler's does.
func OnUnknownType(f func(context.Context, Delivery) error) FailureOption {
	return FailureOption{func(c *consumeConfig) error {
		if f == nil {
			return invalid("OnUnknownType of nil")
		}
		if c.onUnknown != nil {
			return givenTwice("OnUnknownType")
		}
		c.onUnknown = f
		return nil
	}}
}

// typeSet is what Types are, whatever they have in common.
type typeSet struct {
	err    error
	byName map[string]NamedType
	names  map[reflect.Type]string // of those that may be sent
	known  []string
}

func (s *typeSet) String() string { return clip(strings.Join(s.known, ", "), 512) }

func (s *typeSet) add(types []NamedType) error {
	if len(types) == 0 {
		return invalid("no types")
	}
	for _, t := range types {
		_, nameTwice := s.byName[t.name]
		switch {
		case t.wire == nil:
			return invalid("a NamedType that is none of Named and Upgrade")
		case t.name == "" && !t.old:
			return invalid("%v has no name", t.wire)
		case len(t.name) > adapters.MaxNameBytes:
			return invalid("a name of %d bytes for %v, at most %d fit", len(t.name), t.wire, adapters.MaxNameBytes)
		case t.decode == nil:
			return invalid("Upgrade of %q with a nil function", t.name)
		case nameTwice:
			return invalid("type %q is there twice", t.name)
		case t.wire.Kind() == reflect.Interface || t.wire == reflect.TypeFor[Raw]():
			return invalid("type %q cannot be %v: it has to say what to decode into", t.name, t.wire)
		case !t.old && s.names[t.value] != "":
			return invalid("%v has two names, %q and %q: Upgrade is for those that are no longer sent", t.value, s.names[t.value], t.name)
		}
		s.byName[t.name] = t
		if !t.old {
			s.names[t.value] = t.name
		}
	}
	for _, t := range s.byName {
		if s.names[t.value] == "" {
			return invalid("Upgrade of %q to %v, which is not Named", t.name, t.value)
		}
	}
	s.known = slices.Sorted(maps.Keys(s.byName))
	return nil
}

// fit refuses what the values of a pattern cannot be.
func (s *typeSet) fit(payload reflect.Type) error {
	if payload.Kind() != reflect.Interface {
		if s.names[payload] == "" {
			return invalid("%v is not among the types %s", payload, s)
		}
		return nil
	}
	for value, name := range s.names {
		if !value.Implements(payload) {
			return invalid("%v, which is type %q, is no %v", value, clip(name, 64), payload)
		}
	}
	return nil
}

// nameOf returns the type of what is to be sent.
func (s *typeSet) nameOf(v any) (string, error) {
	name := s.names[reflect.TypeOf(v)]
	if name == "" {
		return "", invalid("a %T is not among the types %s", v, s)
	}
	return name, nil
}

// decode fills what target points to with the value of a message of some type.
func (s *typeSet) decode(name string, target any, decode func(any) error) error {
	t, ok := s.byName[name]
	to := reflect.ValueOf(target).Elem()
	if !ok || !t.value.AssignableTo(to.Type()) {
		return &UnknownTypeError{Type: name, Known: s.known}
	}
	value, err := t.decode(decode)
	if err == nil {
		to.Set(reflect.ValueOf(value))
	}
	return err
}
