package patterns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// RPC calls a function that is served elsewhere, over the broker: each call goes to
// one of its servers, which replies.
//
// A caller receives at most one reply: what the function returned. The function may run
// more than once, if a server dies in the middle of it, and may run for nobody, if the
// caller's ctx ended too late for the server to know.
type RPC[Req, Resp any] struct {
	bus    *Bus
	server adapters.Source // of requests
	cancel adapters.Endpoint
	err    error // of its name, or of an adapter that cannot do it
}

// ErrNoServer: nobody serves the function. The call was not made.
var ErrNoServer = errors.New("motif: no server")

// Codes of a RemoteError that have a meaning of their own. Others are those
// given to [WithErrorCode].
const (
	CodeInternal   = "internal"          // the handler failed
	CodePanic      = "panic"             // the handler panicked
	CodeRejected   = "rejected"          // the handler returned Reject
	CodeBadRequest = "bad-request"       // the server could not decode the request
	CodeTooLarge   = "too-large"         // the reply is too large to be sent
	CodeDeadline   = "deadline-exceeded" // matches context.DeadlineExceeded
	CodeCanceled   = "canceled"          // matches context.Canceled
)

// RemoteError is an error that the function returned at its server. errors.Is
// finds in it the error that the caller's bus has for its code.
type RemoteError struct {
	Code    string
	Message string // "" where the server keeps it to itself, see [ExposeErrors]
	known   error
}

func (e *RemoteError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("remote error (%s)", e.Code)
	}
	return fmt.Sprintf("remote error (%s): %s", e.Code, e.Message)
}

// Unwrap returns the error registered for the code, or nil.
func (e *RemoteError) Unwrap() error { return e.known }

type errorCode struct {
	code string
	err  error
}

var builtinCodes = []errorCode{{CodeDeadline, context.DeadlineExceeded}, {CodeCanceled, context.Canceled}, {CodeTooLarge, adapters.ErrTooLarge}}

// WithErrorCode gives err a code under which it travels in RPC replies: at the server the reply to
// a call that fails with an error that wraps err has code and the text of err, and at the caller
// the RemoteError with that code wraps err. Both sides need it.
func WithErrorCode(code string, err error) BusOption {
	return busOption(func(c *busConfig) error {
		if code == "" || len(code) > adapters.MaxNameBytes || err == nil {
			return invalid("error code %q for %v", clip(code, 64), err)
		}
		for _, taken := range slices.Concat(builtinCodes, c.errorCodes) {
			if taken.code == code {
				return invalid("error code %q has a meaning already", code)
			}
		}
		switch code {
		case CodeInternal, CodePanic, CodeRejected, CodeBadRequest:
			return invalid("error code %q has a meaning already", code)
		}
		c.errorCodes = append(c.errorCodes, errorCode{code, err})
		return nil
	})
}

// NewRPC names a function on b. Nothing is declared yet.
func NewRPC[Req, Resp any](b *Bus, name string) *RPC[Req, Resp] {
	r := &RPC[Req, Resp]{
		bus: b,
		server: adapters.Source{
			Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: name},
			Queue:    adapters.QueueSpec{AutoDelete: true}, // no servers, no queue: that is what makes ErrNoServer certain
		},
		cancel: adapters.Endpoint{Kind: adapters.Fanout, Name: name + cancelSuffix},
	}
	r.err = r.validate()
	return r
}

const (
	cancelSuffix = ".cancel"
	rpcNeeds     = adapters.CanReply | adapters.CanReturn | adapters.CanExpire | adapters.CanFanout
)

// ExposeErrors sends callers the whole text of the errors and panics of the handler. Without it
// they get only the code, and for a code of your own (see [WithErrorCode]) the text of the error
// that has it, because a handler's error may contain what not every caller may see. The log has
// the whole text.
func ExposeErrors() ServeOption {
	return serveOption(func(c *consumeConfig) error { return setOnce("ExposeErrors", &c.exposeErrors, true) })
}

// defaultServers is how many calls a server runs at a time without [Workers].
const defaultServers = 16

func (r *RPC[Req, Resp]) validate() error {
	if r.bus == nil {
		return nil // ready says so
	}
	if err := r.server.Validate(); err != nil {
		return err
	}
	if err := (adapters.Publication{To: r.cancel}).Validate(); err != nil {
		return fmt.Errorf("the exchange on which callers give up: %w", err)
	}
	return r.bus.features.Require(rpcNeeds | r.server.Needs())
}

func (r *RPC[Req, Resp]) ready(ctx context.Context) error {
	if err := r.bus.ready(ctx); err != nil {
		return err
	}
	return r.err
}

// Serve answers calls with what handler returns, until ctx ends; see
// [Subscription]. The handler's ctx ends when the caller's deadline has passed,
// and when the caller gives up before that.
//
// A request gets one reply, even if the handler fails or panics. There are no retries and no dead
// letters: whether to call again is the caller's decision. A call that a shutdown interrupts goes
// to another server. Callers are told only the code of an error, see [ExposeErrors].
//
// 16 calls run at a time, or as many as [Workers] says. A handler that calls its own function,
// directly or through others, needs one more worker for each nested call: if all wait for one
// another, no call gets a reply before its deadline. The log warns when all workers of a server do.
//
// With [Passive] requests come from a queue that somebody else declared. Without a server, calls
// then wait there instead of failing with ErrNoServer. If the program may not declare the exchange
// on which callers say that they give up, handlers do not learn of it.
func (r *RPC[Req, Resp]) Serve(ctx context.Context, handler func(context.Context, Req) (Resp, error), opts ...ServeOption) (*Subscription, error) {
	sub, err := r.serve(ctx, handler, opts)
	return sub, opError("serve RPC", r.server.Name, err)
}

func (r *RPC[Req, Resp]) serve(ctx context.Context, handler func(context.Context, Req) (Resp, error), opts []ServeOption) (*Subscription, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	var cfg consumeConfig
	if err := apply(opts, func(o ServeOption) error { return o.applyServe(&cfg) }); err != nil {
		return nil, err
	}
	if handler == nil {
		return nil, invalid("nil handler")
	}
	if cfg.between.max == 0 {
		cfg.workers = cmp.Or(cfg.workers, cmp.Or(cfg.prefetch, defaultServers))
	}
	source := r.server
	if cfg.passive {
		source.Passive, source.Queue = true, adapters.QueueSpec{}
		if err := r.bus.features.Require(source.Needs()); err != nil {
			return nil, err
		}
	}
	codecs, err := r.bus.codecs.with(cfg.encoding)
	if err != nil {
		return nil, err
	}
	calls, err := r.bus.newCallServer(ctx, r.cancel, codecs)
	if cfg.passive && errors.Is(err, adapters.ErrAccess) {
		r.bus.log.WarnContext(ctx, "motif: handlers will not be told of callers that gave up", "function", r.server.Name, "error", err)
		err = nil
	}
	if err != nil {
		calls.end()
		return nil, err
	}
	calls.function, calls.expose = r.server.Name, cfg.exposeErrors
	calls.workers.Store(int64(max(cfg.workers, cfg.between.max)))
	sub, err := r.bus.start(context.WithValue(ctx, callServerKey{}, calls), subscriptionSpec{
		source: source, cfg: cfg, handler: r.handlerFunc(codecs, handler), processor: calls,
		opError: func(err error) error { return opError("serve RPC", r.server.Name, err) },
	})
	if err != nil {
		calls.end()
		return nil, err
	}
	return sub, nil
}

// handlerFunc makes the innermost watermill handler of the user's function; the
// message it returns is the reply.
func (r *RPC[Req, Resp]) handlerFunc(c *codecs, handler func(context.Context, Req) (Resp, error)) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		var req Req
		contentType, contentEncoding := contentOf(m)
		if err := c.unmarshal(contentType, contentEncoding, m.Payload, &req); err != nil {
			return nil, Reject(&badRequestError{err})
		}
		resp, err := handler(m.Context(), req)
		if err != nil {
			return nil, err
		}
		payload, err := c.marshal(resp)
		if err != nil {
			return nil, err
		}
		return []*message.Message{r.bus.message("", payload, message.Metadata{})}, nil // middleware sets headers
	}
}

type badRequestError struct{ error }

func (e *badRequestError) Unwrap() error { return e.error }

// Call sends req to a server and waits for its reply, until ctx ends; a
// ctx without a deadline has 30 s. The server's handler is given the time that
// is left, and its ctx ends when ctx does. Call returns ErrNoServer, a
// *RemoteError for an error of the function, ctx's own error, the error of a
// publish, or ErrSessionLost if the reply cannot come back any more. With the
// last three the function may have run.
func (r *RPC[Req, Resp]) Call(ctx context.Context, req Req, opts ...CallOption) (Resp, error) {
	var resp Resp
	return resp, opError("call RPC", r.server.Name, r.call(ctx, req, &resp, opts))
}

func (r *RPC[Req, Resp]) call(ctx context.Context, req, resp any, opts []CallOption) error {
	var cfg publishConfig
	if err := r.ready(ctx); err != nil {
		return err
	}
	if storeOf(ctx) != nil {
		return invalid("a call with a ctx of StoreIn: it cannot wait for a reply to a request that is stored")
	}
	if err := apply(opts, func(o CallOption) error { return o.applyCall(&cfg) }); err != nil {
		return err
	}
	codecs, err := r.bus.codecs.with(cfg.encoding)
	if err != nil {
		return err
	}
	payload, err := codecs.marshal(req)
	if err != nil {
		return err
	}
	cfg.p.To, cfg.p.ContentType, cfg.p.ContentEncoding = r.server.Endpoint, codecs.contentType, string(codecs.coding)
	defer r.countNested(ctx)()
	m := r.bus.message("", payload, cfg.headers)
	var o *observation
	if r.bus.hooks != nil {
		msgs := []*message.Message{m}
		o = r.bus.hooks.observe(ctx, CauseCall, cfg.p, msgs)
		m = msgs[0]
	}
	reply, err := r.bus.roundTrip(ctx, cfg.p, m, r.cancel)
	if err == nil {
		err = r.bus.decodeReply(codecs, reply, resp)
	}
	o.end(err)
	return err
}

// countNested counts a call that a handler of the same function makes, if it is one, until done is
// called.
func (r *RPC[Req, Resp]) countNested(ctx context.Context) (done func()) {
	c, ok := ctx.Value(callServerKey{}).(*callServer)
	if !ok || c.bus != r.bus || c.function != r.server.Name {
		return func() {}
	}
	if c.nested.Add(1) == c.workers.Load() {
		r.bus.log.WarnContext(ctx, "motif: all workers of a function wait for calls of it, to which nobody here can reply: it needs more Workers",
			"function", r.server.Name, "workers", c.workers.Load())
	}
	return func() { c.nested.Add(-1) }
}
