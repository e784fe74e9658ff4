package watermill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// Config is a watermill pair, and what its owner states about it. A [Driver] believes the
// statements, because watermill's interfaces say nothing of the kind. Publisher and Subscriber must
// be set.
type Config struct {
	// Adapter is the name in errors; the default is "watermill".
	Adapter string

	// Publisher publishes. Messages to a queue or a fanout exchange are published to the topic of
	// the same name, with the context of the Publish call. Receivers must not get that context: no
	// gochannel with PreserveContext, where its end looks like a lost session.
	Publisher message.Publisher

	// Subscriber consumes queues: it subscribes to the topic with the queue's name.
	Subscriber message.Subscriber

	// Competing states that subscriptions of Subscriber to one topic share its messages, in this
	// process and others, as members of a consumer group do. Without it a queue has one
	// subscription of this driver at a time, because with many pairs a second one would get a copy
	// of every message.
	Competing bool

	// Fanout gives each of its subscriptions to a topic a copy of what is published while it lasts.
	// It may be the same as Subscriber. It makes the driver CanFanout. A name is then either a
	// queue's or an exchange's: the other use is ErrMismatch, for both would be one topic.
	Fanout message.Subscriber

	// Groups returns the subscriber of a durable group: subscriptions of one
	// group to a topic share its messages, each group gets all. It is called once
	// for each group, unless it fails. It makes the driver CanGroup, and needs Fanout.
	Groups func(group string) (message.Subscriber, error)

	// Claim states what else holds for the pair, of:
	//
	//   - CanConfirm: its Publish returns nil only when the broker has the message;
	//   - CanPersist: topics, groups and such messages survive a broker restart;
	//   - CanBalance: an idle subscription gets the next message. Needs Competing.
	Claim adapters.Ability

	// Logger logs rejected messages, which are gone. The default is not to log.
	Logger wm.LoggerAdapter
}

const claimable = adapters.CanConfirm | adapters.CanPersist | adapters.CanBalance

func (c Config) validate() error {
	var wrong string
	switch {
	case c.Publisher == nil || c.Subscriber == nil:
		wrong = "a pair needs a publisher and a subscriber"
	case c.Groups != nil && c.Fanout == nil:
		wrong = "groups without fanout"
	case c.Claim&^claimable != 0:
		wrong = fmt.Sprintf("no pair can be claimed to have %s", c.Claim&^claimable)
	case c.Claim.Has(adapters.CanBalance) && !c.Competing:
		wrong = fmt.Sprintf("%s claimed of subscriptions that do not compete", adapters.CanBalance)
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", adapters.ErrInvalid, wrong)
}

// maxSends is how many publishes may be in progress, each of which has a goroutine.
const maxSends = 1024

// Driver is a watermill pair as an adapters.Driver. It is safe for concurrent use.
//
// Of a bare pair it claims nothing but queues; everything else is refused with an
// *adapters.UnsupportedError. watermill's interfaces take no context, so a call that outlasts its
// context goes on in the background, and its result is lost.
type Driver struct {
	cfg      Config
	features adapters.Features
	sends    chan struct{}  // a place for each publish in progress
	tasks    *kit.Tasks     // closed when Close begins
	done     chan struct{}  // closed once Close has finished
	closeErr error          // valid once done is closed
	leaving  sync.WaitGroup // goroutines that give back what comes of subscriptions that were ended

	mu     sync.Mutex
	subs   map[*subscription]struct{} // not ended yet
	queues map[string]*subscription   // the subscription of each queue, unless Competing
	kinds  map[string]adapters.Kind   // of the topics used, if there can be more than one kind

	groupsMu sync.Mutex // held while a group's subscriber is made
	groups   map[string]message.Subscriber
}

var _ adapters.Driver = (*Driver)(nil)

// String identifies the driver in a log.
func (d *Driver) String() string { return "watermill.Driver(" + d.cfg.Adapter + ")" }

// Format keeps fmt from printing the pair, which may hold a password.
func (d *Driver) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(d.String())) }

// NewDriver returns a driver on the pair, which the driver closes.
func NewDriver(cfg Config) (*Driver, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.Adapter = cmp.Or(cfg.Adapter, "watermill")
	if cfg.Logger == nil {
		cfg.Logger = wm.NopLogger{}
	}
	d := &Driver{
		cfg: cfg, features: adapters.Features{Adapter: cfg.Adapter, Ability: cfg.Claim},
		sends: make(chan struct{}, maxSends), tasks: kit.NewTasks(), done: make(chan struct{}),
		subs: map[*subscription]struct{}{}, queues: map[string]*subscription{}, kinds: map[string]adapters.Kind{},
		groups: map[string]message.Subscriber{},
	}
	if cfg.Fanout != nil {
		d.features.Ability |= adapters.CanFanout
	}
	if cfg.Groups != nil {
		d.features.Ability |= adapters.CanGroup
	}
	return d, nil
}

// Features implements [adapters.Driver].
func (d *Driver) Features() adapters.Features { return d.features }

// Declare implements [adapters.Driver]. It initializes the topic if the subscriber is a
// message.SubscribeInitializer; otherwise there is nothing to do.
func (d *Driver) Declare(ctx context.Context, s adapters.Source) error {
	if err := d.accept(ctx, "declare", s); err != nil {
		return err
	}
	_, err := kit.Call(ctx, d.tasks, func() (struct{}, error) {
		subscriber, err := d.subscriber(s)
		if err != nil {
			return struct{}{}, err
		}
		if init, ok := subscriber.(message.SubscribeInitializer); ok {
			err = init.SubscribeInitialize(s.Name)
		}
		return struct{}{}, err
	}, func(struct{}) {})
	return d.wrap("declare", err)
}

// accept returns an error if the driver cannot do this, or not now.
func (d *Driver) accept(ctx context.Context, verb string, s adapters.Source) error {
	if err := d.check(ctx, verb); err != nil {
		return err
	}
	if err := s.Validate(); err != nil {
		return err
	}
	if err := d.features.Require(s.Needs()); err != nil {
		return err
	}
	return d.use(s.Endpoint)
}

// check returns an error if no operation may begin.
func (d *Driver) check(ctx context.Context, verb string) error {
	select {
	case <-d.tasks.Closed():
		return adapters.ErrClosed
	default:
	}
	return d.wrap(verb, ctx.Err())
}

// use notes the kind of a topic, and refuses a second kind.
func (d *Driver) use(e adapters.Endpoint) error {
	if d.cfg.Fanout == nil {
		return nil // there are only queues
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if kind, used := d.kinds[e.Name]; used && kind != e.Kind {
		return fmt.Errorf("%w: %s is the same topic as %s", adapters.ErrMismatch, e, adapters.Endpoint{Kind: kind, Name: e.Name})
	}
	d.kinds[e.Name] = e.Kind
	return nil
}

// subscriber returns the subscriber of s, making it for a new group.
func (d *Driver) subscriber(s adapters.Source) (message.Subscriber, error) {
	switch {
	case s.Kind == adapters.Queue:
		return d.cfg.Subscriber, nil
	case s.Group == "":
		return d.cfg.Fanout, nil
	}
	d.groupsMu.Lock()
	defer d.groupsMu.Unlock()
	if subscriber := d.groups[s.Group]; subscriber != nil {
		return subscriber, nil
	}
	select {
	case <-d.tasks.Closed():
		return nil, adapters.ErrClosed
	default:
	}
	subscriber, err := d.cfg.Groups(s.Group)
	if err == nil && subscriber == nil {
		err = fmt.Errorf("%w: no subscriber for group %q", adapters.ErrInvalid, s.Group)
	}
	if err == nil {
		d.groups[s.Group] = subscriber
	}
	return subscriber, err
}

func (d *Driver) wrap(verb string, err error) error {
	if err == nil || errors.Is(err, adapters.ErrClosed) {
		return err
	}
	return fmt.Errorf("%s: %s: %w", d.cfg.Adapter, verb, err)
}

// Close implements [adapters.Driver]: it nacks what is in hand and closes the
// publisher and the subscribers.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	first := d.tasks.Close()
	subs := make([]*subscription, 0, len(d.subs))
	for s := range d.subs {
		subs = append(subs, s)
	}
	d.mu.Unlock()
	if first {
		go d.shutDown(subs)
	}
	select {
	case <-d.done:
		return d.closeErr
	case <-ctx.Done():
		return d.wrap("close", ctx.Err())
	}
}

func (d *Driver) shutDown(subs []*subscription) {
	for _, s := range subs {
		s.close()
	}
	for _, s := range subs {
		<-s.gone
	}
	d.groupsMu.Lock()
	closers := []closer{d.cfg.Subscriber, d.cfg.Publisher}
	if d.cfg.Fanout != nil {
		closers = append(closers, d.cfg.Fanout)
	}
	for _, subscriber := range d.groups {
		closers = append(closers, subscriber)
	}
	d.groupsMu.Unlock()
	var errs []error
	for i, c := range closers {
		if !contains(closers[:i], c) {
			errs = append(errs, c.Close())
		}
	}
	d.tasks.Wait()
	d.leaving.Wait()
	d.closeErr = d.wrap("close", errors.Join(errs...))
	close(d.done)
}

type closer interface{ Close() error }

// contains reports whether c is among before: one value may be several parts of a pair.
func contains(before []closer, c closer) bool {
	for _, b := range before {
		if reflect.TypeOf(b) == reflect.TypeOf(c) && reflect.ValueOf(c).Comparable() && b == c {
			return true
		}
	}
	return false
}
