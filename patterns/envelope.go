package patterns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Content is what a message says, apart from how it is delivered and compressed.
type Content struct {
	ID          string
	Type        string            // what kind of message it is: see [Type]
	ContentType string            // of the payload
	Headers     map[string]string // never nil; the Envelope's own
	Payload     []byte            // encoded, not compressed
}

// An Envelope is a format for messages that says more of them than their properties do, or puts
// their payload into another one. Package patterns/cloudevents has that of CloudEvents. It must be
// safe for concurrent use. One with a method Validate() error is asked whether it makes sense.
type Envelope interface {
	// Wrap makes the content of a message of v. It calls encode once, with v or the part of it that
	// is the payload, which fills in ContentType, Payload and, of several [Types], Type. What c has
	// before are the ID, the Type and the Headers that the publisher's options say.
	//
	// A value that is sent [AsReceived] comes with the headers that Unwrap left of what was
	// received.
	Wrap(c *Content, v any, encode func(v any) error) error

	// Unwrap undoes that: it makes c what it was before it was wrapped, with Headers that say what
	// the envelope did, and calls decode once, with v or a pointer to the part of it that is the
	// payload, unless there is none. An error means that the message does not decode, and goes to
	// the dead letters.
	Unwrap(c *Content, v any, decode func(v any) error) error
}

// EnvelopeOption is what [WithEnvelope] returns; it is a WorkQueueOption and an ExchangeOption.
type EnvelopeOption struct{ envelope Envelope }

// WithEnvelope has e wrap what is sent to a queue or an exchange, and unwrap what comes from it.
func WithEnvelope(e Envelope) EnvelopeOption { return EnvelopeOption{e} }

func (o EnvelopeOption) apply(c *encodingConfig) error {
	switch {
	case o.envelope == nil:
		return invalid("WithEnvelope of nil")
	case c.envelope != nil:
		return givenTwice("WithEnvelope")
	}
	c.envelope = o.envelope
	if v, ok := o.envelope.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

func (o EnvelopeOption) applyQueue(c *queueConfig) error       { return o.apply(&c.encoding) }
func (o EnvelopeOption) applyExchange(c *encodingConfig) error { return o.apply(c) }

// ContentFrom returns what the message that a handler was given says, without its [Envelope], from
// the handler's ctx or one derived from it. It is false outside handlers, and where there is no
// envelope. It is not to be changed.
func ContentFrom(ctx context.Context) (Content, bool) {
	c, ok := ctx.Value(deliveryKey{}).(*deliveryContext)
	if !ok || c.content == nil {
		return Content{}, false
	}
	return *c.content, true
}

// isPlain reports whether a message says nothing that depends on its value.
func (c *codecs) isPlain() bool { return c.types == nil && c.envelope == nil }

// fits refuses types that the values of a pattern cannot be. Those that an envelope takes apart it
// cannot know.
func fits[T any](c *codecs) error {
	t := reflect.TypeFor[T]()
	if c.types == nil || c.envelope != nil && t.Kind() != reflect.Interface {
		return nil
	}
	return c.types.fit(t)
}

// seal makes the content of a message of v, compressed.
func (c *codecs) seal(m *Content, v any) error {
	encode := func(v any) (err error) {
		if c.types != nil {
			if m.Type != "" {
				return invalid("Type(%q) with WithTypes, which say what type a value is", clip(m.Type, 64))
			}
			if m.Type, err = c.types.nameOf(v); err != nil {
				return err
			}
		}
		m.ContentType = c.contentType
		m.Payload, err = c.encodeValue(v)
		return err
	}
	var err error
	if c.envelope == nil {
		err = encode(v)
	} else {
		if m.Headers = maps.Clone(m.Headers); m.Headers == nil {
			m.Headers = map[string]string{}
		}
		err = c.envelope.Wrap(m, v, encode)
	}
	if err != nil {
		return err
	}
	m.Payload, err = c.pack(v, m.Payload)
	return err
}

// open fills what v points to with the value of a message, whose content is m, compressed.
func (c *codecs) open(m *Content, contentEncoding string, v any) error {
	if _, isRaw := v.(*Raw); isRaw || c.isPlain() {
		return c.unmarshal(m.ContentType, contentEncoding, m.Payload, v)
	}
	if c.envelope == nil {
		return c.openTyped(m, contentEncoding, v)
	}
	err := c.unwrap(m, contentEncoding, v, func(charset string, v any) error { return c.openTyped(m, charset, v) })
	if err != nil && !errors.Is(err, ErrCodec) && !errors.Is(err, adapters.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", ErrCodec, err)
	}
	return err
}

// unwrap calls decode with what v points to, or the part of it that is the payload, and how m's
// payload is still encoded.
func (c *codecs) unwrap(m *Content, contentEncoding string, v any, decode func(charset string, v any) error) (err error) {
	defer recovered(&err)
	if err := checkSize(m.Payload, c.max); err != nil {
		return err
	}
	codings, charset, err := parseContentEncoding(contentEncoding)
	if err != nil {
		return err
	}
	if m.Payload, err = expand(codings, m.Payload, c.max); err != nil {
		return err
	}
	if m.Headers = maps.Clone(m.Headers); m.Headers == nil {
		m.Headers = map[string]string{}
	}
	whole := m.ContentType
	return c.envelope.Unwrap(m, v, func(v any) error {
		if m.ContentType != whole {
			charset = "" // which was that of the whole
		}
		return decode(charset, v)
	})
}

func (c *codecs) openTyped(m *Content, contentEncoding string, v any) error {
	decode := func(v any) error { return c.unmarshal(m.ContentType, contentEncoding, m.Payload, v) }
	if c.types == nil {
		return decode(v)
	}
	return c.types.decode(m.Type, v, decode)
}

// openMessage is open for a message that went through middleware.
func (c *codecs) openMessage(msg *message.Message, v any) error {
	if c.isPlain() {
		contentType, contentEncoding := contentOf(msg)
		return c.unmarshal(contentType, contentEncoding, msg.Payload, v)
	}
	d, ok := msg.Context().Value(deliveryKey{}).(*deliveryContext)
	if !ok {
		return fmt.Errorf("%w: a middleware replaced the message's context, and its type with it", ErrCodec)
	}
	m := &Content{ID: msg.UUID, Type: d.d.Type, ContentType: d.d.ContentType, Headers: msg.Metadata, Payload: msg.Payload}
	err := c.open(m, d.d.ContentEncoding, v)
	if c.envelope != nil {
		d.content = m
	}
	return err
}

// run are messages of one publish that have all but their payloads in common.
type run struct {
	p    adapters.Publication
	msgs []*message.Message
	by   *sender // nil: who sends all
}

// sealAll makes the messages for several values, or none if one cannot be made: in runs, in order.
func (s *sender) sealAll(cfg *publishConfig, values []any) (runs []run, err error) {
	if cfg.id != "" && len(values) > 1 || cfg.received != nil && len(values) > 1 {
		return nil, invalid("one message id for %d messages", len(values))
	}
	if cfg.waitForRoom && len(values) > 1 {
		return nil, invalid("WaitForRoom with a batch")
	}
	for i, v := range values {
		p, msg, err := s.sealOne(cfg, v)
		if err == nil {
			err = p.Validate()
		}
		if err != nil {
			if len(values) > 1 {
				err = fmt.Errorf("message %d: %w", i, err)
			}
			return nil, err
		}
		if n := len(runs); n > 0 && runs[n-1].p.Type == p.Type && runs[n-1].p.ContentType == p.ContentType {
			runs[n-1].msgs = append(runs[n-1].msgs, msg)
		} else {
			runs = append(runs, run{p: p, msgs: []*message.Message{msg}})
		}
	}
	return runs, nil
}

func (s *sender) sealOne(cfg *publishConfig, v any) (adapters.Publication, *message.Message, error) {
	p := cfg.p
	if _, isRaw := v.(Raw); isRaw && cfg.received != nil { // with all that it says of itself
		msg, err := encodeReceived(cfg, v)
		return cfg.p, msg, err
	}
	m := Content{ID: cfg.id, Type: p.Type, Headers: cfg.headers}
	if cfg.received != nil {
		cfg.codecs.reopen(&m, cfg)
	}
	msg := s.bus.message(m.ID, nil, nil)
	if cfg.received != nil {
		msg.UUID = m.ID // even if it had none
	}
	m.ID = msg.UUID
	if err := cfg.codecs.seal(&m, v); err != nil {
		return p, nil, err
	}
	p.Type, p.ContentType = m.Type, m.ContentType
	msg.UUID, msg.Payload, msg.Metadata = m.ID, m.Payload, m.Headers
	return p, msg, nil
}

// reopen makes m say what the message said that it is sent as: all that its envelope did, but for
// what options say. The value tells its type.
func (c *codecs) reopen(m *Content, cfg *publishConfig) {
	if c.types != nil && !cfg.typeGiven {
		m.Type = ""
	}
	if c.envelope == nil {
		return
	}
	d := cfg.received
	was := &Content{ID: d.ID, Type: d.Type, ContentType: d.ContentType, Headers: d.Headers, Payload: d.Payload}
	if c.unwrap(was, d.ContentEncoding, new(any), func(string, any) error { return nil }) != nil {
		return // it was none of these, or a broken one, and becomes one now
	}
	for key, value := range was.Headers {
		if _, given := m.Headers[key]; !given {
			m.Headers[key] = value
		}
	}
}

// sendRuns sends one run after the other, so that messages keep their order.
func (s *sender) sendRuns(ctx context.Context, cfg *publishConfig, runs []run) error {
	if store := storeOf(ctx); store != nil && len(runs) > 1 {
		return s.storeRuns(ctx, store, cfg, runs)
	}
	var failed []adapters.FailedMessage
	begin := 0
	for _, r := range runs {
		cfg.p = r.p
		var try publishContext
		err := s.sendMessages(ctx, cfg, r.msgs, &try)
		if len(runs) == 1 {
			return err
		}
		failed = append(failed, failuresOf(err, r.msgs, begin)...)
		begin += len(r.msgs)
	}
	if len(failed) == 0 {
		return nil
	}
	return &adapters.PublishError{Failed: failed}
}

// failuresOf returns which messages of a run failed, by their place in the whole.
func failuresOf(err error, msgs []*message.Message, begin int) (failed []adapters.FailedMessage) {
	if err == nil {
		return nil
	}
	if some, ok := errors.AsType[*adapters.PublishError](err); ok {
		for _, f := range some.Failed {
			f.Index += begin
			failed = append(failed, f)
		}
		return failed
	}
	for i, m := range msgs {
		failed = append(failed, adapters.FailedMessage{Index: begin + i, UUID: m.UUID, Err: err})
	}
	return failed
}
