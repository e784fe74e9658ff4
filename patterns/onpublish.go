package patterns

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// PublishCause says who publishes a message, and why.
type PublishCause string

// The program publishes with the first two; the library itself with the others.
const (
	CausePublish    PublishCause = "publish"     // Send or Publish, of one, of several, or asynchronous
	CauseCall       PublishCause = "call"        // RPC.Call: the request
	CauseReply      PublishCause = "reply"       // RPC.Serve: the reply to a request
	CauseRetry      PublishCause = "retry"       // to the message's own queue, to be tried again
	CauseRequeue    PublishCause = "requeue"     // to the message's own queue, with no attempt counted
	CauseDeadLetter PublishCause = "dead-letter" // to the dead-letter queue
	CauseRedrive    PublishCause = "redrive"     // WorkQueue.Redrive: from there to where it died
)

// Publishing is one message on its way to the broker, as a [PublishHook] sees it.
type Publishing struct {
	Cause   PublishCause
	To      adapters.Endpoint // kind and name of the destination; of a CauseReply, the caller's address
	Key     string            // routing key, of Routed and Topic
	ID      string
	Attempt int           // of a CauseRetry: the attempt that it is sent for
	Delay   time.Duration // how long it is to wait at the broker
	Size    int           // bytes of the payload, as it travels
	Batch   int           // how many messages are published together, this one included

	// Headers are the message's own, for the hook to read and to change. It must not keep them.
	// What has the prefix "motif-" stays as it is, whatever a hook does; headers that no adapter
	// takes (see [adapters.ValidateMessage]) are logged and left out, all those of the hooks for
	// that message.
	Headers map[string]string
}

// PublishHook is called before a message is published. What it returns is called with the outcome,
// once: nil if the broker has the message, or the error that the verb returns for it, less its
// prefix. That of a [RPC.Call] is the outcome of the whole call, an error of the server included;
// that of an asynchronous publish comes with its publish confirm. A hook may return nil.
//
// ctx is that of the verb; where the library publishes it has the values of the ctx that the
// handler had, as middleware left it, so that [DeliveryFrom] works.
type PublishHook func(ctx context.Context, p *Publishing) (done func(err error))

// OnPublish calls hooks for each message that the bus publishes: what the program sends with
// any verb, and what the library sends for it, told apart by [Publishing].Cause. Several hooks are
// called in turn, even if the option is given several times. The notice by which a call is
// cancelled is not a message of the program's and is left out.
//
// A hook is for tracing headers, metrics and logs: it cannot stop a publish or change its result.
// It is called by a goroutine of its own, several at a time. One that panics is logged. One that
// takes longer than a second is logged, and the message is published without what it would have
// added. The verb waits no longer than that for the function that it returned, either.
func OnPublish(hooks ...PublishHook) BusOption {
	return busOption(func(c *busConfig) error {
		for i, hook := range hooks {
			if hook == nil {
				return invalid("publish hook %d is nil", i)
			}
		}
		c.onPublish = append(c.onPublish, hooks...)
		return nil
	})
}

// hookTimeout is how long a publish waits for its hooks, before and after.
const hookTimeout = time.Second

// publishHooks are the hooks and tracers of a bus. There is none without [OnPublish] and
// [TracePublish].
type publishHooks struct {
	hooks   []PublishHook
	tracers []PublishTracer
	slots   chan struct{} // one for each publish that hooks are told of
	log     *slog.Logger
}

// insideHook is for the ctx that hooks get.
type insideHook struct{}

// observation is the tracers at one publish, and the hooks, in a goroutine that lives as long as
// they and the publish do. A nil one is for a publish that nobody is told of.
type observation struct {
	hooks  *publishHooks
	ctx    context.Context
	traced traced

	published []*Publishing
	done      []func(error) // what hooks returned, of each message in turn, with nils
	began     chan struct{} // closed when all hooks were called
	outcome   chan error    // has room; nil where no hook is told
	ended     chan struct{} // closed when all is done
}

// observe tells tracers and hooks that msgs are about to be published, and puts in their place what
// those made of them.
func (h *publishHooks) observe(ctx context.Context, cause PublishCause, p adapters.Publication, msgs []*message.Message) *observation {
	if ctx.Value(insideHook{}) != nil {
		return nil // or it would be called for what it publishes for that, too
	}
	o := &observation{hooks: h, ctx: ctx}
	if len(h.tracers) > 0 {
		o.trace(ctx, cause, &p, msgs)
	}
	if len(h.hooks) > 0 {
		o.begin(ctx, cause, &p, msgs)
	}
	return o
}

// begin calls the hooks.
func (o *observation) begin(ctx context.Context, cause PublishCause, p *adapters.Publication, msgs []*message.Message) {
	h := o.hooks
	timer := time.NewTimer(hookTimeout)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return
	case <-timer.C:
		h.log.WarnContext(ctx, "motif: publishing without OnPublish's hooks: too many of them have not returned", "to", p.To.Name)
		return
	}
	o.ctx, o.published = context.WithValue(ctx, insideHook{}, true), make([]*Publishing, len(msgs))
	o.began, o.outcome, o.ended = make(chan struct{}), make(chan error, 1), make(chan struct{})
	for i, m := range msgs {
		o.published[i] = &Publishing{
			Cause: cause, To: p.To, Key: p.Key, ID: m.UUID, Delay: p.Delay, Size: len(m.Payload), Batch: len(msgs),
			Headers: maps.Clone(map[string]string(m.Metadata)),
		}
		if o.published[i].Headers == nil {
			o.published[i].Headers = make(map[string]string)
		}
		if cause == CauseRetry {
			o.published[i].Attempt = p.Attempt
		}
	}
	go o.run()
	select {
	case <-o.began:
		for i, m := range msgs {
			msgs[i] = o.withHeaders(m, o.published[i].Headers)
		}
	case <-o.ended: // a hook called runtime.Goexit
	case <-ctx.Done():
	case <-timer.C:
		h.log.WarnContext(ctx, "motif: publishing without waiting any longer for OnPublish's hooks", "to", p.To.Name, "waited", hookTimeout)
	}
}

// run calls the hooks, waits for the outcome, and calls what they returned.
func (o *observation) run() {
	defer close(o.ended)
	defer func() { <-o.hooks.slots }()
	for _, p := range o.published {
		for _, hook := range o.hooks.hooks {
			var done func(error)
			o.protect(func() { done = hook(o.ctx, p) })
			o.done = append(o.done, done)
		}
	}
	close(o.began)
	err := <-o.outcome
	for i, done := range o.done {
		if done != nil {
			o.protect(func() { done(failureOf(err, i/len(o.hooks.hooks))) })
		}
	}
}

func (o *observation) protect(f func()) {
	defer o.recoverHook()
	f()
}

func (o *observation) recoverHook() {
	if v := recover(); v != nil {
		o.hooks.log.ErrorContext(o.ctx, "motif: a hook of OnPublish or TracePublish panicked", "panic", v, "stack", string(debug.Stack()))
	}
}

// withHeaders returns a copy of m that has the headers that hooks gave it.
func (o *observation) withHeaders(m *message.Message, headers map[string]string) *message.Message {
	for name := range headers {
		if strings.HasPrefix(name, reservedPrefix) {
			delete(headers, name)
		}
	}
	for name, value := range m.Metadata {
		if strings.HasPrefix(name, reservedPrefix) {
			headers[name] = value
		}
	}
	changed := &message.Message{UUID: m.UUID, Payload: m.Payload, Metadata: headers}
	if err := adapters.ValidateMessage(changed); err != nil {
		o.hooks.log.WarnContext(o.ctx, "motif: headers of OnPublish's hooks are left out", "error", err)
		return m
	}
	return changed
}

// end tells tracers and hooks the outcome of the publish and gives the hooks time to hear it.
func (o *observation) end(err error) {
	if o == nil {
		return
	}
	o.traceEnd(err)
	if o.outcome == nil {
		return
	}
	o.outcome <- err
	timer := time.NewTimer(hookTimeout)
	defer timer.Stop()
	select {
	case <-o.ended:
	case <-o.ctx.Done():
	case <-timer.C:
	}
}

// endLater is end that waits for nobody: it is called by the goroutine that reads.
func (o *observation) endLater(err error) {
	if o == nil {
		return
	}
	if o.traced.end != nil {
		go o.traceEnd(err)
	}
	if o.outcome != nil {
		o.outcome <- err
	}
}

// wait gives hooks that were told an outcome time to hear it, before the bus is closed.
func (h *publishHooks) wait() {
	timer := time.NewTimer(hookTimeout)
	defer timer.Stop()
	for range cap(h.slots) {
		select {
		case h.slots <- struct{}{}:
		case <-timer.C:
			return
		}
	}
}

// failureOf is what a publish that ended with err means for the i-th of its messages.
func failureOf(err error, i int) error {
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok {
		return err
	}
	for _, f := range failed.Failed {
		if f.Index == i {
			return f.Err
		}
	}
	return nil
}
