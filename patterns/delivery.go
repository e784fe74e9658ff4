package patterns

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Delivery is what there is to know about a message besides its value.
type Delivery struct {
	ID          string            // the publisher's; the same in every repeat
	Source      adapters.Endpoint // what was subscribed: the work queue, exchange or RPC
	Group       string            // the group, of a subscription that has one
	Queue       string            // the queue it came from; "" for a private one
	Call        bool              // it is the request of a call, for [RPC.Serve]
	Key         string            // routing key, of Routed and Topic
	Attempt     int               // 1 for the first
	Redelivered bool              // it may have been delivered before, to a worker that was lost or shut down
	Lost        int               // how often its worker was lost before, as far as that was counted; see LossLimit
	Priority    uint8
	ContentType string

	ContentEncoding string // how Payload is compressed, or ""

	Type        string            // what kind of message it is, as its publisher named it
	AppID       string            // the program that published it, by its own account
	PublishedAt time.Time         // as the publisher's clock had it; zero where it did not say
	Headers     map[string]string // the caller's own copy
	Payload     []byte            // as it came, encoded; not to be modified

	from *adapters.Delivery // for AsReceived
}

// DeliveryFrom returns the delivery of the message that a handler was given, from
// the handler's ctx or one derived from it. It is false outside handlers.
func DeliveryFrom(ctx context.Context) (Delivery, bool) {
	c, ok := ctx.Value(deliveryKey{}).(*deliveryContext)
	if !ok {
		return Delivery{}, false
	}
	return public(&c.d, c.origin), true
}

type deliveryKey struct{}

// Origin is where a message was received.
type Origin struct {
	Source adapters.Endpoint // what was subscribed: the work queue, exchange or RPC
	Group  string            // the group, of a subscription that has one
	Queue  string            // the queue it came from; "" for a private one
	Call   bool              // it is the request of a call, for [RPC.Serve]
	Batch  bool              // it is handled together with others, see [WorkQueue.WorkBatch]
}

func originOf(src adapters.Source) Origin {
	return Origin{Source: src.Endpoint, Group: src.Group, Queue: src.QueueName()}
}

// OriginFrom is [DeliveryFrom] for middleware that need not know more of each message: it copies
// nothing.
func OriginFrom(ctx context.Context) (Origin, bool) {
	c, ok := ctx.Value(deliveryKey{}).(*deliveryContext)
	if !ok {
		return Origin{}, false
	}
	return *c.origin, true
}

// ContextWithDelivery returns a ctx from which [DeliveryFrom] returns d, as if d had been delivered
// with it: for tests that call a handler, and for programs that call one with what they have from
// elsewhere. An Attempt of 0 becomes 1.
func ContextWithDelivery(ctx context.Context, d Delivery) context.Context {
	c := &deliveryContext{Context: ctx, origin: &Origin{Source: d.Source, Group: d.Group, Queue: d.Queue, Call: d.Call}}
	if d.from != nil {
		c.d = *d.from
	}
	c.d.Message = &message.Message{UUID: d.ID, Payload: d.Payload, Metadata: maps.Clone(d.Headers)}
	c.d.Message.SetContext(ctx)
	c.d.Key, c.d.Redelivered = d.Key, d.Redelivered
	c.d.Attempt, c.d.Lost, c.d.Priority = max(d.Attempt, 1), d.Lost, d.Priority
	c.d.ContentType, c.d.ContentEncoding = d.ContentType, d.ContentEncoding
	c.d.Type, c.d.AppID, c.d.Timestamp = d.Type, d.AppID, d.PublishedAt
	return c
}

// deliveryContext is a handler's ctx. It lives on its own, never reused, for
// a handler may keep its ctx.
type deliveryContext struct {
	context.Context
	d       adapters.Delivery
	origin  *Origin
	worker  *worker
	content *Content // without its envelope, where there is one
}

func (c *deliveryContext) Value(key any) any {
	if _, ok := key.(deliveryKey); ok {
		return c
	}
	return c.Context.Value(key)
}

// public returns what users see of a delivery.
func public(d *adapters.Delivery, o *Origin) Delivery {
	v := uncloned(d, o)
	v.Headers = maps.Clone(v.Headers)
	return v
}

// uncloned is public with headers that are not a copy.
func uncloned(d *adapters.Delivery, o *Origin) Delivery {
	m := d.Message
	return Delivery{
		ID: m.UUID, Source: o.Source, Group: o.Group, Queue: o.Queue, Call: o.Call, Key: d.Key,
		Attempt: d.Attempt, Redelivered: d.Redelivered, Lost: d.Lost, Priority: d.Priority,
		ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, Type: d.Type, AppID: d.AppID, PublishedAt: d.Timestamp,
		Headers: m.Metadata, Payload: m.Payload, from: d,
	}
}

// contentOf returns content type and encoding of the delivery behind a message that went through
// middleware, "" where one replaced the ctx altogether.
func contentOf(m *message.Message) (contentType, contentEncoding string) {
	if c, ok := m.Context().Value(deliveryKey{}).(*deliveryContext); ok {
		return c.d.ContentType, c.d.ContentEncoding
	}
	return "", ""
}

// Headers that Motif itself sets, all with the reserved prefix. Those of a dead
// letter say why it is one.
const (
	HeaderReason    = "motif-reason"     // why: the last error, at most 1 KiB of it
	HeaderAttempts  = "motif-attempts"   // how many times it was tried
	HeaderLosses    = "motif-losses"     // how many times its worker was lost, where it was
	HeaderQueue     = "motif-queue"      // the queue it died in
	HeaderDiedAt    = "motif-died-at"    // when, RFC 3339 in UTC
	HeaderNotBefore = "motif-not-before" // of a message that waits for longer than the broker can delay it: its next attempt, RFC 3339
	HeaderRepair    = "motif-repair"     // why it could not be repaired: the last error of a handler of dead letters

	HeaderSentBackAt = "motif-sent-back-at" // of a message that was a dead letter and was sent back: when, RFC 3339 in UTC

	HeaderErrorCode = "motif-error-code" // of an RPC reply: the code of a RemoteError
	HeaderError     = "motif-error"      // of an RPC reply: its text

	reservedPrefix = "motif-"
)

func checkHeader(key string) error {
	switch {
	case key == "" || len(key) > adapters.MaxNameBytes:
		return invalid("header key of %d bytes", len(key))
	case strings.HasPrefix(key, reservedPrefix):
		return invalid("header %q: the prefix %s is reserved", key, reservedPrefix)
	}
	return nil
}
