package patterns

import (
	"context"
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
	CauseRelay      PublishCause = "relay"       // Bus.PublishOutgoing: a message that was stored
)

// Publishing is one publish, of one message or several together, as a [PublishHook] sees it. It is
// good until the hook returns, and for one goroutine.
type Publishing struct {
	Cause   PublishCause
	To      adapters.Endpoint // kind and name of the destination; of a CauseReply, the caller's address
	Key     string            // routing key, of Routed and Topic
	Attempt int               // of a CauseRetry: the attempt that it is sent for
	Delay   time.Duration     // how long it is to wait at the broker

	publication adapters.Publication

	messages []*message.Message
	were     []*message.Message  // before a header was set, else nil; none if none was
	one      [1]*message.Message // room for it, and for its message with headers
	with     message.Message
}

// Len returns how many messages are published together.
func (p *Publishing) Len() int { return len(p.messages) }

// ID returns the id of the i-th message.
func (p *Publishing) ID(i int) string { return p.messages[i].UUID }

// Size returns the bytes of the i-th message's payload, as it travels.
func (p *Publishing) Size(i int) int { return len(p.messages[i].Payload) }

// Payload returns the payload of the i-th message, as it travels: encoded, and compressed if it is.
// It must not be changed.
func (p *Publishing) Payload(i int) []byte { return p.messages[i].Payload }

// Content returns what the payloads are: their content type, and how they are compressed or "".
// [Bus.Decode] takes it.
func (p *Publishing) Content() (contentType, contentEncoding string) {
	return p.publication.ContentType, p.publication.ContentEncoding
}

// Headers returns a copy of the headers of the i-th message, as they are so far.
func (p *Publishing) Headers(i int) map[string]string { return maps.Clone(p.messages[i].Metadata) }

// HasHeaders reports whether the i-th message has any.
func (p *Publishing) HasHeaders(i int) bool { return len(p.messages[i].Metadata) > 0 }

// Header returns a header of the i-th message, "" for one that it does not have.
func (p *Publishing) Header(i int, key string) string { return p.messages[i].Metadata[key] }

// SetHeader sets a header of the i-th message, on its way to the broker and nowhere else. Keys with
// the prefix "motif-" are left as they are. If no adapter takes what the headers come to (see
// [adapters.ValidateMessage]) that is logged, and the message goes as it was.
func (p *Publishing) SetHeader(i int, key, value string) {
	if strings.HasPrefix(key, reservedPrefix) {
		return
	}
	if p.were == nil {
		if p.were = p.one[:]; len(p.messages) > 1 {
			p.were = make([]*message.Message, len(p.messages))
		}
	}
	if m := p.messages[i]; p.were[i] == nil {
		p.were[i] = m
		metadata := maps.Clone(m.Metadata)
		if metadata == nil {
			metadata = make(message.Metadata, 2)
		}
		with := &p.with
		if len(p.messages) > 1 {
			with = new(message.Message)
		}
		with.UUID, with.Payload, with.Metadata = m.UUID, m.Payload, metadata
		p.messages[i] = with
	}
	p.messages[i].Metadata[key] = value
}

// PublishHook is called before a publish. What it returns is called with the outcome, once: nil if
// the broker has the messages, or the error that the verb returns, less its prefix, which of
// several messages is an [*adapters.PublishError] where only some failed. That of a [RPC.Call] is
// the outcome of the whole call, an error of the server included; that of an asynchronous publish
// comes with its publish confirm; that of a message that is stored ([StoreIn]) with the store's
// word. A hook may return nil, which costs nothing.
//
// ctx is that of the verb; where the library publishes it has the values of the ctx that the
// handler had, as middleware left it, so that [DeliveryFrom] works.
type PublishHook func(ctx context.Context, p *Publishing) (done func(err error))

// OnPublish calls hooks for each publish of the bus: what the program sends with any verb, and what
// the library sends for it, told apart by [Publishing].Cause. Several hooks are called in turn,
// even if the option is given several times. The notice by which a call is cancelled is not a
// message of the program's and is left out.
//
// A hook is for tracing headers, metrics and logs: it cannot stop a publish or change its result.
// It is called by the goroutine that publishes, once for all messages of a batch, and so is what it
// returns, or for an asynchronous publish, a reply and a retry by a goroutine of its own. So
// neither must block: the publish waits for them, however long they take. A panic is logged, and
// the message goes out.
//
// A hook may publish, with the ctx that it was given, and is not called for that. With another ctx
// it would be, without end.
func OnPublish(hooks ...PublishHook) BusOption {
	return busOption(func(c *busConfig) error {
		for i, hook := range hooks {
			if hook == nil {
				return invalid("OnPublish: hook %d is nil", i)
			}
		}
		c.onPublish = append(c.onPublish, hooks...)
		return nil
	})
}

// publishHooks are the hooks of a bus. There are none without [OnPublish].
type publishHooks struct {
	hooks []PublishHook
	log   *slog.Logger
}

// observation is a publish that hooks are told of, and the ctx that they get. A nil one is for a
// publish that nobody is told of.
type observation struct {
	context.Context
	hooks      *publishHooks
	publishing Publishing
	done       func(error) // of the hooks that returned one
}

// hookGrace is how long closing a bus waits for hooks.
const hookGrace = time.Second

// insideHook is the key by which the ctx of a hook is known.
type insideHook struct{}

// Value implements [context.Context].
func (o *observation) Value(key any) any {
	if key == (insideHook{}) {
		return true
	}
	return o.Context.Value(key)
}

// observe tells the hooks that msgs are about to be published, and puts in their place what those
// made of them.
func (h *publishHooks) observe(ctx context.Context, cause PublishCause, p adapters.Publication, msgs []*message.Message) *observation {
	if ctx.Value(insideHook{}) != nil {
		return nil // or a hook would be called for what it publishes for that, too
	}
	o := &observation{Context: ctx, hooks: h, publishing: Publishing{
		Cause: cause, To: p.To, Key: p.Key, Delay: p.Delay, publication: p, messages: msgs,
	}}
	if cause == CauseRetry {
		o.publishing.Attempt = p.Attempt
	}
	for _, hook := range h.hooks {
		done := o.call(hook)
		if first := o.done; first != nil && done != nil {
			o.done = func(err error) {
				o.told(first, err)
				o.told(done, err)
			}
		} else if done != nil {
			o.done = done
		}
	}
	for i, was := range o.publishing.were {
		if was == nil {
			continue
		}
		if err := adapters.ValidateMessage(msgs[i]); err != nil {
			h.log.WarnContext(ctx, "motif: headers of OnPublish's hooks are left out", "error", err)
			msgs[i] = was
		}
	}
	return o
}

// call calls a hook.
func (o *observation) call(hook PublishHook) (done func(error)) {
	if !o.byLibrary() {
		defer o.recoverHook()
		return hook(o, &o.publishing)
	}
	returned := make(chan func(error), 1)
	apart(func() {
		defer close(returned)
		defer o.recoverHook()
		returned <- hook(o, &o.publishing)
	})
	return <-returned
}

// told calls what a hook returned.
func (o *observation) told(done func(error), err error) {
	if o.byLibrary() {
		apart(func() {
			defer o.recoverHook()
			done(err)
		})
		return
	}
	defer o.recoverHook()
	done(err)
}

// byLibrary reports whether the goroutine that publishes has more to do afterwards, and hooks are
// called apart from it: [runtime.Goexit], which t.FailNow calls, may end the program's own.
func (o *observation) byLibrary() bool {
	return o.publishing.Cause != CausePublish && o.publishing.Cause != CauseCall
}

func (o *observation) recoverHook() {
	if v := recover(); v != nil {
		o.hooks.log.ErrorContext(o.Context, "motif: a hook of OnPublish panicked", "panic", v, "stack", string(debug.Stack()))
	}
}

// hasEnd reports whether a hook is to be told the outcome.
func (o *observation) hasEnd() bool { return o != nil && o.done != nil }

// end tells the hooks the outcome of the publish.
func (o *observation) end(err error) {
	if o.hasEnd() {
		o.told(o.done, err)
	}
}

// waitForHooks gives hooks that are told of asynchronous publishes time to hear it, before the bus
// is closed: each of those publishes keeps its place until then.
func (b *Bus) waitForHooks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hookGrace)
	defer cancel()
	taken := 0
	for ; taken < cap(b.inFlight) && ctx.Err() == nil; taken++ {
		select {
		case b.inFlight <- struct{}{}:
		case <-ctx.Done():
			taken--
		}
	}
	for range taken {
		<-b.inFlight
	}
}
