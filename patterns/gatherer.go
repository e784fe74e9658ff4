package patterns

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultBatchSize = 100
	defaultBatchWait = 100 * time.Millisecond

	// inTurn is how long the messages of a batch have to be settled one after another. It is an
	// optimisation: those that take longer hold up nothing else.
	inTurn = time.Second
)

// gatherer has the messages that the workers of a subscription have in hand handled in batches.
// There is a worker for each message: it does everything as it does for a single one, but when it
// comes to the handler it joins a batch, and waits until that was handled.
type gatherer struct {
	s       *Subscription
	size    int
	wait    time.Duration
	handler func(ctx context.Context, members []*member) error
	timeout time.Duration // of the handler, or 0

	turn    chan struct{} // held by the worker that receives, until it has joined: batches keep the queue's order
	running chan struct{} // a place for each batch that is handled

	mu   sync.Mutex
	open *batch // the one that is being gathered, nil for none
}

// batch is messages that are handled together. The gatherer's lock guards members and handled.
type batch struct {
	members []*member
	full    chan struct{} // closed when no more may join
}

// member is a message in a batch.
type member struct {
	ctx      context.Context // of its handler
	value    any
	delivery *deliveryContext // nil if a middleware replaced the ctx
	session  context.Context

	taken  bool          // its batch is being handled
	inRun  bool          // acknowledged, and another one of the batch is next
	result chan error    // of the handler, for this message
	left   chan struct{} // closed when the message is settled, or its worker waits for something
}

// configure takes what cfg says of batches, and makes it that of a worker for each message.
func (g *gatherer) configure(cfg *consumeConfig) error {
	g.size, g.wait, g.timeout = cfg.batchSize, cfg.batchWait, cfg.timeout
	if g.size == 0 {
		g.size = defaultBatchSize
	}
	if g.wait == 0 {
		g.wait = defaultBatchWait
	}
	batches := cfg.workers
	if batches > math.MaxUint16/g.size {
		return invalid("BatchSize(%d) for %d workers: a subscription holds at most %d messages", g.size, batches, math.MaxUint16)
	}
	g.turn, g.running = make(chan struct{}, 1), make(chan struct{}, batches)
	cfg.workers = batches * g.size
	return nil
}

// join has v handled in a batch, and returns what that comes to for v.
func (g *gatherer) join(ctx context.Context, v any) error {
	m := &member{ctx: ctx, value: v, result: make(chan error, 1), left: make(chan struct{})}
	alone := false
	if d, ok := ctx.Value(deliveryKey{}).(*deliveryContext); ok && d.worker != nil {
		m.delivery, m.session, alone = d, d.worker.session, d.worker.alone
		defer d.worker.joined(m)
	}
	b := g.add(m, alone)
	if m.delivery != nil {
		m.delivery.worker.passTurn()
	}
	select {
	case err := <-m.result:
		return err
	case <-ctx.Done():
		if g.withdraw(b, m) {
			return context.Cause(ctx)
		}
		return <-m.result
	}
}

// add puts m into the open batch, or into one of its own.
func (g *gatherer) add(m *member, alone bool) *batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.open
	if b == nil || alone {
		b = &batch{full: make(chan struct{})}
		go g.lead(b)
		if !alone {
			g.open = b
		}
	}
	b.members = append(b.members, m)
	if alone || len(b.members) == g.size {
		close(b.full)
		if g.open == b {
			g.open = nil
		}
	}
	return b
}

// withdraw takes m out of its batch, and reports whether it was not too late for that.
func (g *gatherer) withdraw(b *batch, m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.taken {
		return false
	}
	for i, other := range b.members {
		if other == m {
			b.members = append(b.members[:i:i], b.members[i+1:]...)
			break
		}
	}
	return true
}

// take ends the gathering of b, and returns what is to be handled.
func (g *gatherer) take(b *batch) (members []*member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == b {
		g.open = nil
	}
	for _, m := range b.members {
		if m.ctx.Err() == nil { // else it withdraws
			m.taken = true
			members = append(members, m)
		}
	}
	return members
}

// lead waits until b is complete, has it handled, and passes the result on.
func (g *gatherer) lead(b *batch) {
	timer := time.NewTimer(g.wait)
	defer timer.Stop()
	select {
	case <-b.full:
	case <-timer.C:
	case <-g.s.fetching.Done(): // no more will come
	}
	select { // meanwhile others join
	case g.running <- struct{}{}:
		defer func() { <-g.running }()
	case <-g.s.handling.Done(): // its members withdraw
	}
	members := g.take(b)
	if len(members) == 0 {
		return
	}
	err := errGoexit
	defer func() { g.release(members, err) }()
	err = g.handle(members)
}

// handle calls the handler.
func (g *gatherer) handle(members []*member) (err error) {
	ctx, release := g.context(members)
	defer release()
	if g.timeout > 0 {
		due := time.Now().Add(g.timeout)
		timed, stop := context.WithDeadline(ctx, due)
		defer stop()
		ctx = timed
		if d := members[0].delivery; d != nil {
			d.worker.due.Store(int64(due.Sub(g.s.bus.made)))
			defer d.worker.due.Store(0)
		}
	}
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		if err != nil && !isInspectable(err) {
			err = fmt.Errorf("the handler returned a %T whose methods panic", err)
		}
	}()
	return g.handler(&batchContext{ctx, members}, members)
}

// context returns the ctx of a handler. It ends when the sessions of all members are lost: there is
// one, unless a gate had them fetched one by one.
func (g *gatherer) context(members []*member) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(g.s.handling)
	sessions := make(map[<-chan struct{}]context.Context, 1)
	for _, m := range members {
		if m.session != nil {
			sessions[m.session.Done()] = m.session
		}
	}
	var live atomic.Int64
	live.Store(int64(len(sessions)))
	var stops []func() bool
	for _, session := range sessions {
		stops = append(stops, context.AfterFunc(session, func() {
			if live.Add(-1) == 0 {
				cancel(context.Cause(session))
			}
		}))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel(nil)
	}
}

// release tells the members their results. Those that failed are settled first, all at once or, in
// a shutdown, in their order, to be back in their queue as they were. Then the others are, in their
// order, so that they can be acknowledged to the broker together.
func (g *gatherer) release(members []*member, err error) {
	errs := errorsOf(err, len(members))
	late := time.NewTimer(inTurn)
	defer late.Stop()
	inTurn := true
	await := func(m *member) {
		if inTurn && m.delivery != nil {
			select {
			case <-m.left:
			case <-late.C:
				inTurn = false
			}
		}
	}
	for i, m := range members {
		if errs[i] != nil {
			m.result <- errs[i]
			if g.s.fetching.Err() != nil {
				await(m)
			}
		}
	}
	for i, m := range members {
		if errs[i] != nil {
			await(m)
		}
	}
	last := -1
	for i := range members {
		if errs[i] == nil {
			last = i
		}
	}
	for i, m := range members {
		if errs[i] == nil {
			m.inRun = i < last
			m.result <- nil
			await(m)
		}
	}
}

// takeTurn waits until w is the one to receive, in a subscription that gathers.
func (w *worker) takeTurn() {
	if g := w.s.gatherer; g != nil {
		w.become(workerParked) // until it may receive: see Pause
		g.turn <- struct{}{}
		w.hasTurn.Store(true)
	}
}

// passTurn lets another worker receive.
func (w *worker) passTurn() {
	if w.hasTurn.CompareAndSwap(true, false) {
		<-w.s.gatherer.turn
	}
}

// joined notes that the handler has dealt with w's message as a member of a batch, and w goes on.
func (w *worker) joined(m *member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.member != nil { // a middleware called the handler again
		close(w.member.left)
	}
	w.member = m
}

// inRun reports whether other messages of the batch are acknowledged after that of w.
func (w *worker) inRun() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.member != nil && w.member.inRun
}

// stepAside lets those go on that wait for w, once its message is settled or it waits itself.
func (w *worker) stepAside() {
	if w.s.gatherer == nil {
		return
	}
	w.passTurn()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.member != nil {
		close(w.member.left)
		w.member = nil
	}
}
