package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

var features = adapters.Features{
	Adapter: "kafka",
	Ability: adapters.CanFanout | adapters.CanRoute | adapters.CanTopic | adapters.CanGroup | adapters.CanUnbind | adapters.CanExchange |
		adapters.CanPersist | adapters.CanConfirm | adapters.CanReturn | adapters.CanPassive | adapters.CanBalance | adapters.CanDelay | adapters.CanDeadLetter |
		adapters.CanSingleActive | adapters.CanReportHealth | adapters.CanInspect | adapters.CanList | adapters.CanBrowse |
		adapters.CanListBindings | adapters.CanCompare | adapters.CanPurge | adapters.CanDelete,
}

// How long things take at most, where no ctx says so.
const (
	dialTimeout    = 5 * time.Second
	apiTimeout     = 15 * time.Second // an answer of a broker
	othersTimeout  = 2 * time.Second  // the answers of all brokers, where those of one do not do
	confirmTimeout = 30 * time.Second
	stopTimeout    = 5 * time.Second // for the broker to be told that a subscription ends
)

// maxBytes is how large a message may be: 1 MiB of payload, and metadata. A record may be larger by
// what we add to it later.
const (
	maxBytes       = 1<<20 + 256<<10
	maxRecordBytes = maxBytes + 16<<10
)

// maxUnderWay is how many copies of messages a driver has on their way at most.
const maxUnderWay = 4096

// Driver is a client of Kafka: an [adapters.Driver], AsyncPublisher and Unbinder. It is made by
// [adapters.Open].
type Driver struct {
	config config
	client *kgo.Client // publishes, and asks; what is consumed has a client of its own
	admin  *kadm.Client
	tasks  *kit.Tasks
	routes *kit.Routes
	window chan struct{} // a place for each message that is on its way

	watcher *watcher // of client

	life context.Context // ends with Close
	end  context.CancelFunc

	// From which delivery on a record is written anew, see subscription.renew.
	renewAt int

	mu      sync.Mutex
	log     *slog.Logger
	topics  map[string]topic    // as they were last seen, by name
	ledgers map[string]*ledger  // by exchange
	specs   map[string]declared // of queues, as far as they are known
	subs    map[*subscription]struct{}
	made    int             // subscriptions so far
	closing context.Context // that of Close
	moves   [rungs]*link    // of the rungs that this driver moves
}

var (
	_ adapters.Driver         = (*Driver)(nil)
	_ adapters.AsyncPublisher = (*Driver)(nil)
	_ adapters.Unbinder       = (*Driver)(nil)
	_ adapters.LogSetter      = (*Driver)(nil)
)

// options are those of every client.
func (c *config) common() []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(c.brokers...), kgo.ClientID("motif"), kgo.DialTimeout(dialTimeout), kgo.ConnIdleTimeout(5 * time.Minute),
		kgo.RetryTimeout(apiTimeout), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.RetryBackoffFn(func(n int) time.Duration {
			wait := kit.Backoff{Min: min(20*time.Millisecond<<min(n, 10), time.Second), Max: time.Second}
			return wait.Next()
		}),
	}, c.options...)
}

func connect(ctx context.Context, c config) (*Driver, error) {
	w := &watcher{link: newLink("publish"), wake: make(chan struct{}, 1)}
	client, err := kgo.NewClient(append(c.common(), kgo.WithHooks(w),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(confirmTimeout), kgo.UnknownTopicRetries(1), kgo.ProducerBatchMaxBytes(maxRecordBytes), kgo.MaxBufferedRecords(2*maxUnderWay))...)
	if err != nil {
		return nil, fmt.Errorf("kafka: open: %w: %w", adapters.ErrInvalid, err)
	}
	d := &Driver{
		config: c, client: client, watcher: w, admin: kadm.NewClient(client), tasks: kit.NewTasks(), window: make(chan struct{}, maxUnderWay),
		log: slog.Default(), topics: map[string]topic{}, ledgers: map[string]*ledger{}, specs: map[string]declared{}, subs: map[*subscription]struct{}{},
	}
	d.life, d.end = context.WithCancel(context.Background())
	d.routes = kit.NewRoutes(records{d}, d.tasks)
	if err := d.begin(ctx); err != nil {
		d.end()
		client.Close()
		return nil, err
	}
	d.tasks.Go(d.lookForDelayed)
	d.tasks.Go(d.probe)
	return d, nil
}

// begin looks whether there is a broker, and whether it is one that has share groups.
func (d *Driver) begin(ctx context.Context) error {
	answer, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, patient{d.client})
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err != nil {
		return apiError("connecting", err)
	}
	need := kmsg.NewPtrShareFetchRequest()
	has := false
	for _, key := range answer.ApiKeys {
		has = has || key.ApiKey == need.Key() && key.MaxVersion >= need.MaxVersion()
	}
	if !has {
		return fmt.Errorf("kafka: %w: the broker has no share groups as those of Kafka 4.2", adapters.ErrUnavailable)
	}
	d.renewAt = renewAt(d.deliveryLimit(ctx))
	return nil
}

// deliveryLimit returns after how many deliveries the broker drops a record.
func (d *Driver) deliveryLimit(ctx context.Context) int {
	const usual = 5
	all, err := within(ctx, func() (kadm.ResourceConfigs, error) {
		brokers, err := d.admin.ListBrokers(ctx)
		if err != nil {
			return nil, err
		}
		return d.admin.DescribeBrokerConfigs(ctx, brokers.NodeIDs()...)
	})
	if err != nil {
		return usual // it takes a right of its own to ask
	}
	limit := 0
	for _, broker := range all {
		for _, c := range broker.Configs {
			if n, err := strconv.Atoi(c.MaybeValue()); err == nil && c.Key == "group.share.delivery.count.limit" && (limit == 0 || n < limit) {
				limit = n
			}
		}
	}
	return cmp.Or(limit, usual)
}

// renewAt returns from which delivery on a record is written anew: with as many to come as have
// been, in which a client may fail to do so.
func renewAt(limit int) int { return max(2, limit/2+1) }

// Format implements [fmt.Formatter]: whatever the verb, it says what the driver is, without the
// login.
func (d *Driver) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "kafka at %v", d.config.brokers) }

// SetLogger implements [adapters.LogSetter].
func (d *Driver) SetLogger(l *slog.Logger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = l
}

func (d *Driver) logger() *slog.Logger {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log
}

// Features implements [adapters.Driver].
func (d *Driver) Features() adapters.Features { return features }

// bound returns a ctx that ends with the driver, too.
func (d *Driver) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// untilClosed returns a ctx that outlives the driver, as long as its Close may take.
func (d *Driver) untilClosed() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	d.tasks.Go(func() {
		select {
		case <-ended:
			return
		case <-d.tasks.Closed():
		}
		d.mu.Lock()
		closing := d.closing
		d.mu.Unlock()
		select {
		case <-ended:
		case <-closing.Done():
			cancel()
		}
	})
	return ctx, sync.OnceFunc(func() { close(ended); cancel() })
}

// outliving returns a ctx that goes on for a while when another one ends, for what is under way
// then; but not for a broker that is silent.
func outliving(ctx, life context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(life, func() {
		select {
		case <-time.After(stopTimeout):
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { stop(); cancel() }
}

// Declare implements [adapters.Driver].
func (d *Driver) Declare(ctx context.Context, s adapters.Source) error {
	if err := cmp.Or(d.tasks.Check(ctx, "kafka: declare"), s.Validate(), features.Require(s.Needs())); err != nil {
		return err
	}
	ctx, cancel := d.bound(ctx)
	defer cancel()
	if s.Private() {
		return d.tasks.Explain(ctx, d.routes.Declare(ctx, s.Endpoint))
	}
	_, _, err := d.declare(ctx, s, s.QueueName())
	return d.tasks.Explain(ctx, err)
}

// declare makes what s describes, and returns the topic of its queue and its dead-letter queue.
func (d *Driver) declare(ctx context.Context, s adapters.Source, queue string) (t topic, letters string, err error) {
	t, err = d.look(ctx, queueTopic(queue))
	found := !errors.Is(err, adapters.ErrNotFound)
	letters = s.Queue.DeadLetter
	switch {
	case s.Passive && err == nil:
		spec, err := d.spec(ctx, queue, t, nil)
		return t, spec.DeadLetter, err
	case s.Passive, found && err != nil:
		return t, "", err
	case found: // before anything is changed
		err = d.agree(ctx, queue, t, s.Queue)
	case letters != "":
		err = d.canHoldLetters(ctx, letters)
	default:
		err = nil
	}
	if err == nil && s.Kind.IsExchange() {
		err = d.routes.Declare(ctx, s.Endpoint)
	}
	if err == nil && letters != "" {
		_, err = d.declareQueue(ctx, letters, adapters.QueueSpec{})
	}
	if err == nil && !found {
		t, err = d.declareQueue(ctx, queue, s.Queue)
	}
	if err == nil && s.Kind.IsExchange() {
		err = d.routes.Bind(ctx, s.Endpoint, kit.Bound{Queue: queue, ID: boundID(t.id)}, s.Keys...)
	}
	return t, letters, err
}

// canHoldLetters returns an error if there is a queue that cannot be one of dead letters.
func (d *Driver) canHoldLetters(ctx context.Context, queue string) error {
	t, err := d.look(ctx, queueTopic(queue))
	if errors.Is(err, adapters.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = d.agree(ctx, queue, t, adapters.QueueSpec{})
	}
	return err
}

// Unbind implements [adapters.Unbinder].
func (d *Driver) Unbind(ctx context.Context, s adapters.Source) error {
	if err := cmp.Or(d.tasks.Check(ctx, "kafka: unbind"), s.Validate(), features.Require(s.Needs())); err != nil {
		return err
	}
	if s.Private() {
		return fmt.Errorf("kafka: unbind: %w: a private source", adapters.ErrInvalid)
	}
	if !s.Kind.IsExchange() {
		return nil
	}
	ctx, cancel := d.bound(ctx)
	defer cancel()
	return d.tasks.Explain(ctx, d.routes.Unbind(ctx, s.Endpoint, s.QueueName(), s.Keys...))
}

// Subscribe implements [adapters.Driver].
func (d *Driver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if err := cmp.Or(d.tasks.Check(ctx, "kafka: subscribe"), s.ValidateSubscribe(), features.Require(s.Needs())); err != nil {
		return nil, err
	}
	bound, cancel := d.bound(ctx)
	defer cancel()
	sub := newSubscription(d, s)
	at, err := sub.attach(bound)
	if err != nil {
		return nil, d.tasks.Explain(ctx, err)
	}
	d.mu.Lock()
	d.made++
	sub.number = d.made
	d.subs[sub] = struct{}{}
	d.mu.Unlock()
	if !d.tasks.Go(func() { sub.run(at) }) {
		at.client.Close()
		return nil, adapters.ErrClosed
	}
	return sub, nil
}

// Close implements [adapters.Driver].
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	if d.closing == nil {
		d.closing = ctx
	}
	d.mu.Unlock()
	first := d.tasks.Close()
	d.end()
	d.mu.Lock()
	subs := slices.Collect(maps.Keys(d.subs))
	d.mu.Unlock()
	for _, s := range subs {
		_ = s.why() // wakes who waits
	}
	d.tasks.Wait() // what runs has given back what it holds, or ctx has ended
	if first {
		d.client.Close()
	}
	return nil
}
