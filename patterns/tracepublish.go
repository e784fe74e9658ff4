package patterns

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Outgoing is one publish, of one message or several together, as a [PublishTracer] sees it. It is
// good until the tracer returns, and for one goroutine.
type Outgoing struct {
	Cause   PublishCause
	To      adapters.Endpoint // kind and name of the destination; of a CauseReply, the caller's address
	Key     string            // routing key, of Routed and Topic
	Attempt int               // of a CauseRetry: the attempt that it is sent for
	Delay   time.Duration     // how long it is to wait at the broker

	publication *adapters.Publication

	messages []*message.Message
	were     []*message.Message  // before a header was set, else nil; none if none was
	one      [1]*message.Message // room for it
}

// Len returns how many messages are published together.
func (o *Outgoing) Len() int { return len(o.messages) }

// ID returns the id of the i-th message.
func (o *Outgoing) ID(i int) string { return o.messages[i].UUID }

// Size returns the bytes of the i-th message's payload, as it travels.
func (o *Outgoing) Size(i int) int { return len(o.messages[i].Payload) }

// Headers returns a copy of the headers of the i-th message, as they are so far.
func (o *Outgoing) Headers(i int) map[string]string { return maps.Clone(o.messages[i].Metadata) }

// Payload returns the payload of the i-th message, as it travels: encoded, and compressed if it is.
// It must not be changed.
func (o *Outgoing) Payload(i int) []byte { return o.messages[i].Payload }

// Content returns what the payloads are: their content type, and how they are compressed or "".
// [Bus.Decode] takes it.
func (o *Outgoing) Content() (contentType, contentEncoding string) {
	return o.publication.ContentType, o.publication.ContentEncoding
}

// HasHeaders reports whether the i-th message has any.
func (o *Outgoing) HasHeaders(i int) bool { return len(o.messages[i].Metadata) > 0 }

// Header returns a header of the i-th message, "" for one that it does not have.
func (o *Outgoing) Header(i int, key string) string { return o.messages[i].Metadata[key] }

// SetHeader sets a header of the i-th message, on its way to the broker and nowhere else. Keys with
// the prefix "motif-" are left as they are. If no adapter takes what the headers come to (see
// [adapters.ValidateMessage]) that is logged, and the message goes as it was.
func (o *Outgoing) SetHeader(i int, key, value string) {
	if strings.HasPrefix(key, reservedPrefix) {
		return
	}
	if o.were == nil {
		if o.were = o.one[:]; len(o.messages) > 1 {
			o.were = make([]*message.Message, len(o.messages))
		}
	}
	if m := o.messages[i]; o.were[i] == nil {
		o.were[i] = m
		metadata := maps.Clone(m.Metadata)
		if metadata == nil {
			metadata = make(message.Metadata, 2)
		}
		o.messages[i] = &message.Message{UUID: m.UUID, Payload: m.Payload, Metadata: metadata}
	}
	o.messages[i].Metadata[key] = value
}

// PublishTracer is called before a publish. What it returns is called with the outcome, once: nil
// if the broker has the messages, or the error that the verb returns, less its prefix, which of
// several messages is an [*adapters.PublishError] where only some failed. That of a [RPC.Call] is
// the outcome of the whole call. A nil function is fine, and costs nothing.
//
// ctx is that of the verb; where the library publishes it has the values of the ctx that the
// handler had, as middleware left it.
type PublishTracer func(ctx context.Context, o *Outgoing) (end func(err error))

// TracePublish calls tracers for each publish of the bus, those of the library itself included. It
// is [OnPublish] for what must cost little: a tracer is called by the goroutine that publishes,
// once for all messages of a batch, and headers are copied only if it sets one.
//
// So a tracer must not block, nor publish on the same bus: the publish waits for it, however long
// it takes. What it returns is called by the same goroutine, or for an asynchronous publish and a
// reply by one of its own. A panic is logged.
func TracePublish(tracers ...PublishTracer) BusOption {
	return busOption(func(c *busConfig) error {
		for i, t := range tracers {
			if t == nil {
				return invalid("publish tracer %d is nil", i)
			}
		}
		c.tracers = append(c.tracers, tracers...)
		return nil
	})
}

// traced is a publish that tracers were told of.
type traced struct {
	outgoing Outgoing
	end      func(error) // of the tracers that returned one
}

// trace tells the tracers of a publish, and puts in the place of msgs what they made of them.
func (o *observation) trace(ctx context.Context, cause PublishCause, p *adapters.Publication, msgs []*message.Message) {
	t := &o.traced
	t.outgoing = Outgoing{Cause: cause, To: p.To, Key: p.Key, Delay: p.Delay, publication: p, messages: msgs}
	if cause == CauseRetry {
		t.outgoing.Attempt = p.Attempt
	}
	for _, tracer := range o.hooks.tracers {
		end := o.call(ctx, tracer)
		if first := t.end; first != nil && end != nil {
			t.end = func(err error) {
				defer end(err)
				first(err)
			}
		} else if end != nil {
			t.end = end
		}
	}
	for i, was := range t.outgoing.were {
		if was == nil {
			continue
		}
		if err := adapters.ValidateMessage(msgs[i]); err != nil {
			o.hooks.log.WarnContext(ctx, "motif: headers of TracePublish's tracers are left out", "error", err)
			msgs[i] = was
		}
	}
}

func (o *observation) call(ctx context.Context, tracer PublishTracer) (end func(error)) {
	defer o.recoverHook()
	return tracer(ctx, &o.traced.outgoing)
}

// traceEnd tells the tracers the outcome.
func (o *observation) traceEnd(err error) {
	if o.traced.end != nil {
		defer o.recoverHook()
		o.traced.end(err)
	}
}
