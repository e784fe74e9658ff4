package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

var features = adapters.Features{
	Adapter: "jetstream",
	Ability: adapters.CanFanout | adapters.CanRoute | adapters.CanTopic | adapters.CanGroup | adapters.CanUnbind | adapters.CanExchange |
		adapters.CanPersist | adapters.CanConfirm | adapters.CanReturn | adapters.CanGet | adapters.CanPassive |
		adapters.CanBalance | adapters.CanRequeue | adapters.CanExpire | adapters.CanReply | adapters.CanAutoDelete | adapters.CanDeadLetter | adapters.CanDelay |
		adapters.CanReportHealth | adapters.CanInspect | adapters.CanList | adapters.CanBrowse | adapters.CanListBindings |
		adapters.CanPurge | adapters.CanDelete | adapters.CanCompare,
}

// Driver is a client of NATS JetStream: an [adapters.Driver], AsyncPublisher, Getter, Unbinder and
// Inspector. It is made by [adapters.Open].
type Driver struct {
	config config
	local  *local // the server in this process, or nil
	tasks  *kit.Tasks
	routes *kit.Routes
	window chan struct{} // a place for each message that is on its way to a stream

	mu      sync.Mutex
	session *session      // nil while it is replaced
	changed chan struct{} // closed with the next session
	subs    map[*subscription]struct{}
	log     *slog.Logger
	warned  map[string]time.Time          // when, by what: see warn
	made    uint64                        // sessions
	why     error                         // the last one was lost, or could not be made
	alive   map[string]*nats.Subscription // see members

	lettered map[string]*lettered // by name

	moving sync.Mutex
	moves  bool // what was delayed on its way to an exchange

	requeued map[string]*requeued // by the id of a queue
}

var (
	_ adapters.Driver         = (*Driver)(nil)
	_ adapters.AsyncPublisher = (*Driver)(nil)
	_ adapters.Getter         = (*Driver)(nil)
	_ adapters.Unbinder       = (*Driver)(nil)
	_ adapters.LogSetter      = (*Driver)(nil)
	_ adapters.HealthReporter = (*Driver)(nil)
)

// maxUnderWay is how many copies of messages a driver has on their way at most. The server itself
// takes so many for a stream before it begins to refuse.
const maxUnderWay = 4096

func connect(ctx context.Context, c config) (*Driver, error) {
	d := &Driver{
		config: c, tasks: kit.NewTasks(), window: make(chan struct{}, maxUnderWay),
		changed: make(chan struct{}), subs: map[*subscription]struct{}{}, log: slog.Default(), warned: map[string]time.Time{}, requeued: map[string]*requeued{}, alive: map[string]*nats.Subscription{}, lettered: map[string]*lettered{},
	}
	d.routes = kit.NewRoutes(records{d}, d.tasks)
	if c.folder != "" {
		l, err := acquire(ctx, c)
		if err != nil {
			return nil, err
		}
		d.local = l
	}
	s, err := d.dial(ctx)
	if err != nil {
		d.tasks.Close()
		d.tasks.Wait()
		d.release()
		return nil, err
	}
	d.use(s)
	d.tasks.Go(d.care)
	return d, nil
}

func (d *Driver) release() {
	if d.local != nil {
		d.local.release()
	}
}

// Format implements [fmt.Formatter]: whatever the verb, it says what the driver is, without the
// login.
func (d *Driver) Format(f fmt.State, _ rune) {
	if d.config.folder != "" {
		_, _ = fmt.Fprintf(f, "jetstream in %s", d.config.folder)
	} else {
		_, _ = fmt.Fprintf(f, "jetstream at %v", d.config.servers)
	}
}

// Format implements [fmt.Formatter], as that of Driver.
func (s *subscription) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "subscription to queue %q of %v", s.name.name, s.d)
}

// Format implements [fmt.Formatter], as that of Driver.
func (h *delivery) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "message %d of queue %q", h.seq, h.at.queue.name)
}

// Features implements [adapters.Driver].
func (d *Driver) Features() adapters.Features { return features }

// Health implements [adapters.HealthReporter]. There is one connection.
func (d *Driver) Health() adapters.Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := adapters.Connection{Role: "all", Generation: d.made, LastError: d.why}
	if d.session != nil && !d.tasks.IsClosed() {
		c.Up, c.Broker, c.Address = true, "NATS "+d.session.nc.ConnectedServerVersion(), d.session.nc.ConnectedAddr()
	}
	return adapters.Health{Connections: []adapters.Connection{c}}
}

// use makes s the session.
func (d *Driver) use(s *session) {
	d.mu.Lock()
	closed := !d.tasks.Go(func() { d.tend(s) })
	if !closed {
		d.session = s
		d.made++
		close(d.changed)
		d.changed = make(chan struct{})
	}
	d.mu.Unlock()
	switch {
	case closed:
		s.stop(adapters.ErrClosed)
	case s.nc.IsClosed(): // before it was the session, so that nobody has noticed
		d.lost(s, s.nc.LastError())
	}
}

// lost is told that the connection of a session is closed, by whoever closed it.
func (d *Driver) lost(s *session, why error) {
	d.mu.Lock()
	mine := d.session == s
	if mine {
		d.session, d.why = nil, adapters.ErrSessionLost
		if why != nil {
			d.why = why
		}
	}
	log := d.log
	d.mu.Unlock()
	lost := adapters.ErrSessionLost
	if why != nil {
		lost = fmt.Errorf("%w: %w", adapters.ErrSessionLost, why)
	}
	s.end(lost)
	s.fail(fmt.Errorf("jetstream: %w: %w", adapters.ErrUnconfirmed, lost), anyAnswer)
	for _, sub := range d.all() {
		sub.lose(s)
	}
	if mine && d.tasks.Go(d.reconnect) {
		log.Warn("jetstream: connection lost", "error", why)
	}
}

// reconnect makes another session, as long as the driver is not closed.
func (d *Driver) reconnect() {
	ctx, cancel := d.background()
	defer cancel()
	wait := kit.Backoff{Min: 20 * time.Millisecond, Max: 2 * time.Second}
	for {
		s, err := d.dial(ctx)
		if err == nil {
			d.use(s)
			return
		}
		d.mu.Lock()
		d.why = err
		d.mu.Unlock()
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return
		}
	}
}

// background returns a ctx that ends with the driver.
func (d *Driver) background() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := make(chan struct{})
	if !d.tasks.Go(func() {
		select {
		case <-d.tasks.Closed():
			cancel(adapters.ErrClosed)
		case <-stop:
		}
	}) {
		cancel(adapters.ErrClosed)
	}
	var once sync.Once
	return ctx, func() {
		once.Do(func() { close(stop) })
		cancel(nil)
	}
}

// tend keeps what is in hand from being given to others, as long as the session lasts.
func (d *Driver) tend(s *session) {
	ticker := time.NewTicker(ackWait * 3 / 10)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		case <-d.tasks.Closed():
			return
		}
		now := time.Now()
		s.fail(fmt.Errorf("jetstream: %w: no answer in %v", adapters.ErrUnconfirmed, confirmTimeout), func(a answer) bool {
			return !a.since.IsZero() && now.Sub(a.since) > confirmTimeout
		})
		var held []*delivery
		for _, sub := range d.all() {
			held = append(held, sub.inHand(s)...)
		}
		for _, h := range held {
			_ = s.nc.Publish(h.reply, ackProgress)
		}
		if len(held) > 0 && s.flush(s.ctx) == nil {
			for _, h := range held {
				h.touch(now)
			}
		}
	}
}

func (d *Driver) all() []*subscription {
	d.mu.Lock()
	defer d.mu.Unlock()
	subs := make([]*subscription, 0, len(d.subs))
	for s := range d.subs {
		subs = append(subs, s)
	}
	return subs
}

// live returns the session, once there is one.
func (d *Driver) live(ctx context.Context) (*session, error) {
	for {
		d.mu.Lock()
		s, changed := d.session, d.changed
		d.mu.Unlock()
		if s != nil {
			return s, nil // also for what Close has to do
		}
		if d.tasks.IsClosed() {
			return nil, adapters.ErrClosed
		}
		select {
		case <-changed:
		case <-d.tasks.Closed():
		case <-ctx.Done():
			return nil, fmt.Errorf("jetstream: %w: not connected: %w", adapters.ErrUnavailable, ctx.Err())
		}
	}
}

// Declare implements [adapters.Driver].
func (d *Driver) Declare(ctx context.Context, s adapters.Source) error {
	if err := cmp.Or(d.tasks.Check(ctx, "jetstream: declare"), s.Validate(), features.Require(s.Needs())); err != nil {
		return err
	}
	if s.Kind == adapters.Reply {
		return fmt.Errorf("jetstream: declare: %w: a reply address needs a subscription", adapters.ErrInvalid)
	}
	if s.Private() {
		return d.tasks.Explain(ctx, d.routes.Declare(ctx, s.Endpoint))
	}
	session, err := d.live(ctx)
	if err == nil {
		_, err = d.declare(ctx, session, s)
	}
	return d.tasks.Explain(ctx, err)
}

// declare makes what s describes, which is not private, and returns its queue.
func (d *Driver) declare(ctx context.Context, session *session, s adapters.Source) (*queue, error) {
	name := nameQueue(s.QueueName())
	q, err := session.look(ctx, name)
	switch {
	case s.Passive && err == nil:
		d.remember(q)
		return q, session.makeConsumer(ctx, q)
	case s.Passive, err != nil && !errors.Is(err, adapters.ErrNotFound):
		return nil, err
	case err == nil && q.spec != s.Queue: // before anything is changed
		return nil, mismatch(q, s.Queue)
	case err != nil && s.Queue.DeadLetter != "":
		if l, err := session.look(ctx, nameQueue(s.Queue.DeadLetter)); err == nil && l.spec != (adapters.QueueSpec{}) {
			return nil, mismatch(l, adapters.QueueSpec{})
		}
	}
	if s.Kind.IsExchange() {
		if err := d.routes.Declare(ctx, s.Endpoint); err != nil {
			return nil, err
		}
	}
	if letters := s.Queue.DeadLetter; letters != "" {
		if err := d.declareLetters(ctx, session, letters); err != nil {
			return nil, err
		}
	}
	if q, err = session.declare(ctx, name, s.Queue, d.config.replicas); err != nil {
		return nil, err
	}
	d.remember(q)
	if s.Kind.IsExchange() {
		err = d.routes.Bind(ctx, s.Endpoint, q.bound(), s.Keys...)
	}
	return q, err
}

// declareLetters makes a dead-letter queue exist.
func (d *Driver) declareLetters(ctx context.Context, session *session, name string) error {
	_, err := session.declare(ctx, nameQueue(name), adapters.QueueSpec{}, d.config.replicas)
	return err
}

// Unbind implements [adapters.Unbinder].
func (d *Driver) Unbind(ctx context.Context, s adapters.Source) error {
	if err := cmp.Or(d.tasks.Check(ctx, "jetstream: unbind"), s.Validate(), features.Require(s.Needs())); err != nil {
		return err
	}
	if s.Private() {
		return fmt.Errorf("jetstream: unbind: %w: a private source", adapters.ErrInvalid)
	}
	if !s.Kind.IsExchange() {
		return nil
	}
	return d.tasks.Explain(ctx, d.routes.Unbind(ctx, s.Endpoint, s.QueueName(), s.Keys...))
}

// Subscribe implements [adapters.Driver].
func (d *Driver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if err := cmp.Or(d.tasks.Check(ctx, "jetstream: subscribe"), s.ValidateSubscribe(), features.Require(s.Needs())); err != nil {
		return nil, err
	}
	return d.subscribe(ctx, s)
}

// subscribe is Subscribe, also to queues that no user can name.
func (d *Driver) subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	sub := newSubscription(d, s)
	session, err := d.live(ctx)
	if err == nil {
		err = sub.attach(ctx, session)
	}
	if err != nil {
		sub.discard()
		return nil, d.tasks.Explain(ctx, err)
	}
	d.mu.Lock()
	d.subs[sub] = struct{}{}
	d.mu.Unlock()
	if !d.tasks.Go(sub.run) {
		sub.discard()
		return nil, adapters.ErrClosed
	}
	return sub, nil
}

// Close implements [adapters.Driver].
func (d *Driver) Close(ctx context.Context) error {
	if !d.tasks.Close() {
		d.tasks.Wait()
		return nil
	}
	d.mu.Lock()
	s := d.session
	d.mu.Unlock()
	for _, sub := range d.all() {
		sub.close(ctx, s)
	}
	if s != nil {
		_ = s.flush(ctx) // what was settled, and given back
		d.mu.Lock()
		d.session = nil
		d.mu.Unlock()
		s.stop(adapters.ErrClosed)
	}
	d.tasks.Wait()
	d.release()
	return nil
}
