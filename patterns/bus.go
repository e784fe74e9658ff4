package patterns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Bus carries the patterns over one driver, which it owns. It is safe for
// concurrent use.
type Bus struct {
	driver     adapters.Driver
	features   adapters.Features
	codecs     *codecs
	log        *slog.Logger
	middleware []message.HandlerMiddleware
	onSettle   []SettleHook
	onGet      []func(context.Context, Got)
	errorCodes []errorCode
	err        error // of its options
	made       time.Time

	inFlight   chan struct{} // one for each asynchronous publish
	lastResend chan struct{} // held while a reply is sent for the last time
	hooks      *publishHooks // nil for none
	timeout    publishTimeout
	replies    replies
	counters   counters
	watched    atomic.Bool // somebody has asked for its health

	mu            sync.Mutex
	closed        bool
	onClosed      []func() // of OnNew, until they are called
	subscriptions map[*Subscription]struct{}
	schedules     map[*Scheduled]struct{}
	failed        []SubscriptionHealth // those that ended with an error, the last ones
	declared      map[declared]error   // queues that this bus declared to send to, or may not declare

	background sync.WaitGroup // short goroutines: cancels of calls
}

// New returns a bus on d, which the bus then owns and closes. A nil driver or an
// option that makes no sense is reported by the first verb.
func New(d adapters.Driver, opts ...BusOption) *Bus {
	var cfg busConfig
	err := apply(opts, func(o BusOption) error { return o.applyBus(&cfg) })
	cfg.maxInFlight = cmp.Or(cfg.maxInFlight, 1024)
	cfg.maxCalls = cmp.Or(cfg.maxCalls, 4096)
	cfg.maxPayload = cmp.Or(cfg.maxPayload, 16<<20)
	if cfg.logger == nil {
		cfg.logger = slog.New(defaultHandler{})
	}
	b := &Bus{
		driver: d, log: cfg.logger, middleware: cfg.middleware, onSettle: cfg.onSettle, onGet: cfg.onGet, errorCodes: append(cfg.errorCodes, builtinCodes...),
		inFlight:      make(chan struct{}, cfg.maxInFlight),
		made:          time.Now(),
		lastResend:    make(chan struct{}, 1),
		subscriptions: map[*Subscription]struct{}{},
		schedules:     map[*Scheduled]struct{}{},
		declared:      map[declared]error{},
	}
	b.timeout.limit = cmp.Or(cfg.publishTimeout, defaultPublishTimeout)
	b.replies.init(b, cfg.maxCalls)
	if len(cfg.onPublish) > 0 {
		b.hooks = &publishHooks{hooks: cfg.onPublish, log: b.log}
	}
	if d == nil {
		b.err = errors.Join(err, invalid("nil driver"))
		return b
	}
	if l, ok := d.(adapters.LogSetter); ok {
		l.SetLogger(b.log)
	}
	b.features = d.Features()
	maxBody := cfg.maxPayload
	if limit := b.features.MaxBody; limit > 0 {
		maxBody = limit
	}
	var codecErr error
	b.codecs, codecErr = newCodecs(cfg.encoding, cfg.maxPayload, maxBody)
	if b.err = errors.Join(err, codecErr); b.err == nil {
		for _, f := range cfg.onNew {
			if closed := f(b); closed != nil {
				b.onClosed = append(b.onClosed, closed)
			}
		}
	}
	return b
}

// Open is [adapters.Open] and [New]: the adapter is chosen by the URL's
// scheme, among those whose packages are imported.
func Open(ctx context.Context, url string, opts ...BusOption) (*Bus, error) {
	d, err := adapters.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	b := New(d, opts...)
	if b.err != nil {
		return nil, errors.Join(b.err, d.Close(ctx))
	}
	return b, nil
}

// Close stops every subscription and schedule, waits for what is in hand as long as ctx and
// each one's drain timeout allow, and closes the driver. Messages whose
// handlers did not finish go back to their queues; with a ctx that has ended
// already, that is every one in hand. Calls that wait for a
// reply end with ErrClosed. Closing twice is harmless.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	subs := make([]*Subscription, 0, len(b.subscriptions))
	for s := range b.subscriptions {
		subs = append(subs, s)
	}
	schedules := slices.Collect(maps.Keys(b.schedules))
	b.mu.Unlock()
	if b.driver == nil {
		return nil
	}
	for _, s := range schedules {
		s.beginStop()
	}
	var draining sync.WaitGroup
	for _, s := range subs { // all at once: each may wait for the broker a little
		draining.Go(s.drain)
	}
	draining.Wait()
	var errs []error
	for _, s := range subs {
		errs = append(errs, s.Stop(ctx))
	}
	for _, s := range schedules {
		errs = append(errs, s.Stop(ctx))
	}
	b.replies.close()
	b.timeout.end()
	b.background.Wait()
	if err := b.driver.Close(ctx); err != nil {
		errs = append(errs, fmt.Errorf("closing the driver: %w", err))
	}
	b.replies.wait()
	if b.hooks != nil {
		b.waitForHooks(ctx)
	}
	b.mu.Lock()
	onClosed := b.onClosed
	b.onClosed = nil
	b.mu.Unlock()
	for _, f := range onClosed {
		f()
	}
	return errors.Join(errs...)
}

// Driver returns the driver, for what the patterns do not cover. It is the
// bus's to close.
func (b *Bus) Driver() adapters.Driver { return b.driver }

// Err returns what is wrong with how the bus was made, as each verb would: an option that makes no
// sense, for example. It says nothing of the broker; [Bus.Health] does.
func (b *Bus) Err() error {
	if b == nil {
		return invalid("no bus")
	}
	return b.err
}

// Stats counts everything off the happy path since the bus was made.
type Stats struct {
	Retried      uint64 // failed, and waits for another attempt
	DeadLettered uint64 // given up, to a dead-letter queue
	Dropped      uint64 // given up, with nowhere to go
	Requeued     uint64 // given back to the queue unfinished, by a shutdown or for a broker's failure
	Skipped      uint64 // acknowledged with nothing done, see Skip
	Lost         uint64 // came back because a worker was lost, and counted for it, see LossLimit
	TimedOut     uint64 // taken back by the broker because they were held too long
	Stale        uint64 // handled, but settled too late: the broker delivers it again
	LateReplies  uint64 // replies to calls that nobody waits for any more, or never did
	LostReplies  uint64 // replies that could not be sent to their caller
}

type counters struct {
	retried, deadLettered, dropped, requeued, skipped, lost, timedOut, stale, lateReplies, lostReplies atomic.Uint64
}

// Stats returns the counts so far.
func (b *Bus) Stats() Stats {
	c := &b.counters
	return Stats{
		Retried: c.retried.Load(), DeadLettered: c.deadLettered.Load(), Dropped: c.dropped.Load(), Requeued: c.requeued.Load(),
		Skipped: c.skipped.Load(), Lost: c.lost.Load(), TimedOut: c.timedOut.Load(), Stale: c.stale.Load(), LateReplies: c.lateReplies.Load(), LostReplies: c.lostReplies.Load(),
	}
}

// ready returns the error that every verb of a pattern on b begins with.
func (b *Bus) ready(ctx context.Context) error {
	if b == nil {
		return invalid("no bus: patterns are made with their New functions, of a bus")
	}
	if b.err != nil {
		return b.err
	}
	return ctx.Err()
}

func (b *Bus) add(s *Subscription) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return adapters.ErrClosed
	}
	b.subscriptions[s] = struct{}{}
	b.forgetFailed(s)
	return nil
}

// remove is for a subscription that has ended, for err, if that is not nil.
func (b *Bus) remove(s *Subscription, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subscriptions, s)
	if err != nil {
		b.noteFailed(s, err)
	}
}

func (b *Bus) addScheduled(s *Scheduled) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return adapters.ErrClosed
	}
	b.schedules[s] = struct{}{}
	return nil
}

func (b *Bus) removeScheduled(s *Scheduled) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.schedules, s)
}

// declared is a queue as it was declared: a sender with other options must be
// told that they do not agree.
type declared struct {
	name    string
	spec    adapters.QueueSpec
	passive bool
}

// maxDeclared bounds what is remembered, for programs that make up names.
const maxDeclared = 10_000

// declareOnce makes the queue of a work queue exist before the first message
// is sent to it.
func (b *Bus) declareOnce(ctx context.Context, s adapters.Source) error {
	key := declared{s.Name, s.Queue, s.Passive}
	b.mu.Lock()
	refused, done := b.declared[key]
	b.mu.Unlock()
	if done {
		return refused
	}
	if err := s.Validate(); err != nil {
		return err
	}
	if err := b.features.Require(s.Needs()); err != nil {
		return err
	}
	err := b.driver.Declare(ctx, s)
	if err != nil && !errors.Is(err, adapters.ErrAccess) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.declared) >= maxDeclared {
		clear(b.declared)
	}
	b.declared[key] = err
	return err
}

func (b *Bus) forget(s adapters.Source) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.declared, declared{s.Name, s.Queue, s.Passive})
}
