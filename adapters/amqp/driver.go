package amqp

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// Driver is one client of a RabbitMQ broker: an [adapters.Driver] with every ability but CanCancel
// and CanUnique (listing queues and bindings where [Config].Management is set), and an
// AsyncPublisher, ReplyReceiver, Getter, Unbinder and Inspector.
type Driver struct {
	cfg        Config
	management *management // nil without Config.Management

	ctx    context.Context // ends when Close begins to close connections
	stop   context.CancelFunc
	killed context.Context // ends when Close no longer waits for that
	kill   context.CancelFunc

	publisher      *supervisor
	dedicatedSlots chan struct{} // a place for each supervisor that is for one suspect
	checker        checker
	channelMax     atomic.Int32  // channels that a connection may have, as negotiated last
	inFlight       chan struct{} // a place for each publish without a confirm
	nackRetries    *nackRetries

	publishChannelLimit atomic.Int32 // channels on the publishing connection, where the broker was found to allow fewer than it negotiates; else 0

	declareTook atomic.Int64 // a time.Duration
	warnedOfSAC sync.Once
	declaring   nameLocks // names of queues that are being declared
	delayQueues delayQueues
	tasks       *kit.Tasks // all goroutines
	idle        idle

	mu             sync.Mutex
	closing        bool // no new operations
	consumers      []*supervisor
	subs           map[*subscription]struct{}
	declared       map[string]adapters.Source
	specs          map[string]adapters.QueueSpec // of declared queues, by name
	unknownBrokers map[string]struct{}           // those warned of
	finished       chan struct{}                 // closed when Close has finished
}

var (
	_ adapters.Driver         = (*Driver)(nil)
	_ adapters.AsyncPublisher = (*Driver)(nil)
	_ adapters.ReplyReceiver  = (*Driver)(nil)
	_ adapters.Getter         = (*Driver)(nil)
	_ adapters.Unbinder       = (*Driver)(nil)
	_ adapters.Inspector      = (*Driver)(nil)
	_ adapters.HealthReporter = (*Driver)(nil)
)

const adapterName = "amqp" // in Features, and of what is refused

// managed are the abilities that take the management API.
const managed = adapters.CanList | adapters.CanListBindings

// maxDelay is the longest delay; see delay.go.
const maxDelay = 30 * 24 * time.Hour

// Connect returns a driver that is connected. It fails if no address accepts a connection, or if
// the login is refused; with RetryConnect it tries as long as ctx allows.
func Connect(ctx context.Context, cfg Config) (*Driver, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Driver{
		cfg:            cfg,
		inFlight:       make(chan struct{}, cfg.MaxInFlight),
		subs:           make(map[*subscription]struct{}),
		declared:       make(map[string]adapters.Source),
		specs:          make(map[string]adapters.QueueSpec),
		unknownBrokers: make(map[string]struct{}),
		delayQueues:    delayQueues{settles: queueSettles},
		dedicatedSlots: make(chan struct{}, maxDedicated),
		checker:        checker{slots: make(chan struct{}, maxChecks)},
		nackRetries:    newNackRetries(cfg.MaxInFlight),
		finished:       make(chan struct{}),
		tasks:          kit.NewTasks(),
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.killed, d.kill = context.WithCancel(context.Background())
	if cfg.Management != "" {
		d.management = newManagement(d)
	}
	d.publisher = newSupervisor(d, "publish")
	conn, err := d.connectFirst(ctx)
	if err != nil {
		d.stop()
		d.kill()
		return nil, err
	}
	d.tasks.Go(func() { d.publisher.run(conn) })
	return d, nil
}

// maxRefused is how many logins in a row a broker may refuse while Connect waits for it: one that
// is about to go down refuses some, too.
const maxRefused = 3

// connectFirst makes the first connection.
func (d *Driver) connectFirst(ctx context.Context) (*connection, error) {
	pause := kit.Backoff{Min: d.cfg.BackoffMin, Max: d.cfg.BackoffMax}
	var before error // of the attempt before
	for refused := 0; ; {
		conn, err := d.publisher.connect(ctx)
		if err == nil || !d.cfg.RetryConnect {
			return conn, err
		}
		if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
			<-ctx.Done() // which a socket may come before, by a moment
		}
		if before != nil && ctx.Err() != nil { // which cut this attempt short, so that it says less
			return nil, fmt.Errorf("%w (%w)", before, ctx.Err())
		}
		before = err
		if refused++; !refusedLogin(err) {
			refused = 0
		}
		if refused == maxRefused {
			return nil, err
		}
		wait := pause.Next()
		d.cfg.Logger.Warn("motif: cannot connect yet", "error", err, "retry_in", wait)
		if !sleep(ctx, wait) {
			return nil, fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	}
}

// String identifies the driver in a log.
func (d *Driver) String() string {
	return fmt.Sprintf("amqp.Driver(%s at %s)", d.cfg.Name, strings.Join(d.cfg.Addresses, ", "))
}

// Format keeps fmt from printing the fields.
func (d *Driver) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(d.String())) }

// Features implements [adapters.Driver].
func (d *Driver) Features() adapters.Features {
	f := adapters.Features{Adapter: adapterName, Ability: adapters.AllV1, MaxBody: d.cfg.MaxBody, MaxDelay: maxDelay}
	if d.management == nil {
		f.Ability &^= managed
	}
	return f
}

// checkOpen returns an error if no operation may begin: because the driver is closed, or ctx has
// ended.
func (d *Driver) checkOpen(ctx context.Context, verb string) error {
	d.mu.Lock()
	closing := d.closing
	d.mu.Unlock()
	if closing {
		return adapters.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("amqp: %s: %w", verb, err)
	}
	return nil
}

// Do runs f with a channel of its own on the connection for publishing, for whatever the seam does
// not cover. The channel is closed afterwards, and f may have had it closed. f must not retain the
// channel, and must not turn on amqp091's own recovery.
func (d *Driver) Do(ctx context.Context, f func(*amqp091.Channel) error) error {
	if err := d.checkOpen(ctx, "do"); err != nil {
		return err
	}
	conn, err := d.publisher.connection(ctx)
	if err != nil {
		return err
	}
	return conn.withChannel(ctx, f)
}

// Close implements [adapters.Driver]. Publishes that wait for their confirms may still get them,
// for a moment. Neither ctx nor a frozen broker keeps Close from finishing: the sockets are then
// just closed.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	first := !d.closing
	d.closing = true
	d.mu.Unlock()
	if first {
		go d.shutDown(ctx)
	}
	defer context.AfterFunc(ctx, d.kill)()
	<-d.finished
	return nil
}

const (
	settleTime  = 2 * time.Second // how long Close waits for confirms
	goodbyeTime = 3 * time.Second // how long Close waits for the broker to close connections
)

func (d *Driver) shutDown(ctx context.Context) {
	defer close(d.finished)
	d.mu.Lock()
	subs := make([]*subscription, 0, len(d.subs))
	for s := range d.subs {
		subs = append(subs, s)
	}
	d.mu.Unlock()
	for _, s := range subs {
		s.flush()
		s.end(adapters.ErrClosed)
	}
	d.awaitUnbound(ctx, subs)
	d.drain(ctx)
	unhook := context.AfterFunc(ctx, d.kill)
	giveUp := time.AfterFunc(goodbyeTime, d.kill)
	d.stop()
	d.tasks.Close()
	for range cap(d.inFlight) { // once every publish is confirmed
		d.inFlight <- struct{}{}
	}
	d.tasks.Wait()
	d.checker.close()
	comingMessages.forget(d)
	giveUp.Stop()
	unhook()
	d.kill()
}

// awaitUnbound waits a moment until private queues are unbound, so that no other publisher fails
// because of them.
func (d *Driver) awaitUnbound(ctx context.Context, subs []*subscription) {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	private := false
	for _, s := range subs {
		if !s.source.Private() || !s.source.Kind.IsExchange() {
			continue
		}
		private = true
		select {
		case <-s.stopped:
		case <-ctx.Done():
			return
		}
	}
	if private {
		sleep(ctx, unbindTime)
	}
}

// drain waits for publishes in flight, unless there is no broker to answer.
func (d *Driver) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	// Those that are sent again come first, because they need places in flight.
	for _, places := range []chan struct{}{d.nackRetries.slots, d.inFlight} {
		taken := d.acquireAll(ctx, places)
		defer func() {
			for range taken {
				<-places
			}
		}()
	}
}

// acquireAll takes all places, each once it is free, and returns how many it got.
func (d *Driver) acquireAll(ctx context.Context, places chan struct{}) (taken int) {
	for ; taken < cap(places); taken++ {
		conn := d.publisher.current()
		if conn == nil {
			break
		}
		if blocked, _ := conn.blocked(); blocked != nil {
			break
		}
		select {
		case places <- struct{}{}:
			continue
		case <-ctx.Done():
		case <-conn.ctx.Done():
		}
		break
	}
	return taken
}

// checkCall returns the first error of what every operation checks.
func (d *Driver) checkCall(ctx context.Context, verb string, valid error) error {
	return cmp.Or(d.checkOpen(ctx, verb), valid)
}
