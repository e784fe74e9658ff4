package conformance

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

// mutant is the in-process broker with one deliberate fault.
type mutant struct {
	fault  string // as a sentence
	caught string // the ID of the case whose rule it breaks
	mutate func(*mutated)
}

// secret is what mutants know and must not tell.
const secret = "correct horse battery staple"

// mutants are those of all areas.
var mutants = slices.Concat(
	claimsMutants,
	publishMutants,
	ackMutants,
	queueMutants,
	pubsubMutants,
	routedMutants,
	exchangeMutants,
	topicMutants,
	rpcMutants,
	failureMutants,
	lostMutants,
	limitMutants,
	durableMutants,
	inspectMutants,
	healthMutants,
	lifecycleMutants,
	inputMutants,
	secretMutants,
)

// mutated is a client of the in-process broker, whose methods go through fields that
// a mutant replaces. What it replaces it can call, to do what is right.
type mutated struct {
	*memory.Client
	as       adapters.Driver // what the suite is given: itself, or less
	harness  *Harness        // of the case: its hooks can be replaced too
	broker   *memory.Broker  // of the case, and so of all its clients
	run      context.Context // ends with the run of the case, when all has been looked at
	password string          // which it should not have

	declare   func(context.Context, adapters.Source) error
	publish   func(context.Context, adapters.Publication, ...*message.Message) error
	async     func(context.Context, adapters.Publication, *message.Message, func(error)) error
	subscribe func(context.Context, adapters.Source) (adapters.Subscription, error)
	get       func(context.Context, adapters.Source) (adapters.Delivery, error)
	unbind    func(context.Context, adapters.Source) error
	cancel    func(context.Context, adapters.Endpoint, string) error
	features  func() adapters.Features
	close     func(context.Context) error

	inspect  func(context.Context, string) (adapters.QueueInfo, error)
	list     func(context.Context) iter.Seq2[adapters.QueueInfo, error]
	browse   func(context.Context, string, int) ([]adapters.Delivery, error)
	bindings func(context.Context, string) ([]adapters.Binding, error)
	compare  func(context.Context, adapters.Endpoint, adapters.QueueSpec) ([]adapters.Difference, error)
	purge    func(context.Context, string) (int, error)
	remove   func(context.Context, string, adapters.Condition) error // Delete
	health   func() adapters.Health

	receive func(context.Context, adapters.Subscription) (adapters.Delivery, error) // of subscriptions
	try     func(context.Context, adapters.Subscription) (adapters.Delivery, error) // TryReceive
	stop    func(adapters.Subscription) error
	giveAll func(adapters.Subscription) error // StopAndReturn
	address func(adapters.Subscription) string
	settle  func(context.Context, adapters.Delivery, adapters.Outcome) error // of deliveries
}

func newMutated(b *memory.Broker, h *Harness) *mutated {
	c := b.Connect()
	m := &mutated{
		Client: c, harness: h, broker: b,
		declare: c.Declare, publish: c.Publish, async: c.PublishAsync, subscribe: c.Subscribe, get: c.Get, unbind: c.Unbind, cancel: c.Cancel,
		features: c.Features, close: c.Close,
		inspect: c.Inspect, list: c.Queues, browse: c.Browse, bindings: c.Bindings, compare: c.Compare, purge: c.Purge, remove: c.Delete, health: c.Health,
		receive: func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) { return s.Receive(ctx) },
		try:     tryReceive,
		stop:    adapters.Subscription.Stop,
		giveAll: func(s adapters.Subscription) error { return s.(adapters.Returner).StopAndReturn() },
		address: adapters.Subscription.Address,
		settle:  func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error { return d.Settle(ctx, o) },
	}
	m.as = m
	return m
}

func (m *mutated) Declare(ctx context.Context, s adapters.Source) error { return m.declare(ctx, s) }

func (m *mutated) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	return m.publish(ctx, p, msgs...)
}

// PublishAsync publishes answers as Publish does, so that who replaces that has all
// of them.
func (m *mutated) PublishAsync(ctx context.Context, p adapters.Publication, msg *message.Message, done func(error)) error {
	if !isReply(p) {
		return m.async(ctx, p, msg, done)
	}
	err := m.publish(ctx, p, msg)
	if failed, ok := errors.AsType[*adapters.PublishError](err); ok {
		err = failed.Failed[0].Err
	}
	done(err)
	return nil
}

func (m *mutated) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	sub, err := m.subscribe(ctx, s)
	if err != nil {
		return nil, err
	}
	return &mutatedSubscription{sub, m}, nil
}

func (m *mutated) Get(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
	d, err := m.get(ctx, s)
	return m.settled(d), err
}

func (m *mutated) Unbind(ctx context.Context, s adapters.Source) error { return m.unbind(ctx, s) }

func (m *mutated) Cancel(ctx context.Context, to adapters.Endpoint, id string) error {
	return m.cancel(ctx, to, id)
}

func (m *mutated) Features() adapters.Features     { return m.features() }
func (m *mutated) Close(ctx context.Context) error { return m.close(ctx) }

func (m *mutated) Inspect(ctx context.Context, queue string) (adapters.QueueInfo, error) {
	return m.inspect(ctx, queue)
}

func (m *mutated) Queues(ctx context.Context) iter.Seq2[adapters.QueueInfo, error] {
	return m.list(ctx)
}

func (m *mutated) Browse(ctx context.Context, queue string, limit int) ([]adapters.Delivery, error) {
	return m.browse(ctx, queue, limit)
}

func (m *mutated) Bindings(ctx context.Context, queue string) ([]adapters.Binding, error) {
	return m.bindings(ctx, queue)
}

func (m *mutated) Compare(ctx context.Context, e adapters.Endpoint, spec adapters.QueueSpec) ([]adapters.Difference, error) {
	return m.compare(ctx, e, spec)
}

func (m *mutated) Purge(ctx context.Context, queue string) (int, error) { return m.purge(ctx, queue) }

func (m *mutated) Delete(ctx context.Context, queue string, only adapters.Condition) error {
	return m.remove(ctx, queue, only)
}

func (m *mutated) Health() adapters.Health { return m.health() }

func (m *mutated) settled(d adapters.Delivery) adapters.Delivery {
	if d.Settler != nil {
		d.Settler = &mutatedSettler{d, m}
	}
	return d
}

type mutatedSubscription struct {
	adapters.Subscription
	m *mutated
}

func (s *mutatedSubscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.m.receive(ctx, s.Subscription)
	return s.m.settled(d), err
}

func (s *mutatedSubscription) TryReceive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.m.try(ctx, s.Subscription)
	return s.m.settled(d), err
}

func tryReceive(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
	if tr, ok := s.(adapters.TryReceiver); ok {
		return tr.TryReceive(ctx)
	}
	return adapters.Delivery{}, adapters.ErrUnsupported
}

func (s *mutatedSubscription) Stop() error          { return s.m.stop(s.Subscription) }
func (s *mutatedSubscription) StopAndReturn() error { return s.m.giveAll(s.Subscription) }
func (s *mutatedSubscription) Address() string      { return s.m.address(s.Subscription) }

type mutatedSettler struct {
	d adapters.Delivery // as the broker delivered it
	m *mutated
}

func (s *mutatedSettler) Settle(ctx context.Context, o adapters.Outcome) error {
	return s.m.settle(ctx, s.d, o)
}

// open returns a harness for brokers with the fault. Its hooks are those of
// another one, which the fault can replace at any time.
func (x mutant) open(run context.Context) (*Harness, error) {
	b := memory.New()
	h := harness(b)
	return &Harness{
		Connect: func(context.Context) (adapters.Driver, error) {
			m := newMutated(b, h)
			m.run = run
			x.mutate(m)
			return m.as, nil
		},
		Close:   func(ctx context.Context) error { return h.Close(ctx) },
		Restart: func(ctx context.Context) error { return h.Restart(ctx) },
		Cut:     func(ctx context.Context) error { return h.Cut(ctx) },
		Freeze:  func(ctx context.Context) (func() error, error) { return h.Freeze(ctx) },
		Block:   func(ctx context.Context) (func() error, error) { return h.Block(ctx) },
		Depth:   func(ctx context.Context, queue string) (int, error) { return h.Depth(ctx, queue) },
		Delete:  func(ctx context.Context, queue string) error { return h.Delete(ctx, queue) },
		Secret:  secret,

		HoldLimit: func(ctx context.Context, d time.Duration) (func() error, error) { return h.HoldLimit(ctx, d) },
	}, nil
}

// bubble runs cases on brokers of their own, in a bubble, where to wait in vain
// takes no time.
func bubble(t *testing.T, open Opener, cases ...Case) (report Report) {
	synctest.Test(t, func(t *testing.T) {
		var err error
		if report, err = check(t.Context(), cases, open, onMemoryClaims); err != nil {
			t.Error(err)
		}
	})
	return report
}

func TestMutants(t *testing.T) {
	var killed atomic.Int32
	t.Run("of", func(t *testing.T) {
		for _, x := range mutants {
			t.Run(x.fault, func(t *testing.T) {
				t.Parallel()
				i := slices.IndexFunc(Cases(), func(c Case) bool { return c.ID == x.caught })
				if i < 0 {
					t.Fatalf("there is no case %s", x.caught)
				}
				report := bubble(t, x.open, Cases()[i])
				if report.Passed() {
					t.Errorf("%s does not notice it", x.caught)
					return
				}
				why := fmt.Sprint(report.Results[0].Why)
				if strings.Contains(why, "panic: ") { // which says nothing of the rule
					t.Errorf("%s breaks on it: %s", x.caught, why)
					return
				}
				killed.Add(1)
				t.Log(why)
			})
		}
	})
	t.Logf("mutants: killed %d of %d", killed.Load(), len(mutants))
}

// What is not mutated passes through all the fields above unharmed.
func TestHonestOnePasses(t *testing.T) {
	honest := mutant{mutate: func(*mutated) {}}
	report := bubble(t, honest.open, Cases()...)
	for _, r := range report.Results {
		if r.Outcome == Fail {
			t.Errorf("%s: %q", r.ID, r.Why)
		}
	}
}

// limited is a client that refuses everything but these abilities, as an adapter
// must that claims no more.
func limited(to adapters.Ability) func(*mutated) {
	return func(m *mutated) {
		m.features = func() adapters.Features { return adapters.Features{Adapter: "memory", Ability: to} }
		require := func(need adapters.Ability) error { return m.features().Require(need) }
		declare, publish, async, subscribe, get := m.declare, m.publish, m.async, m.subscribe, m.get
		m.declare = func(ctx context.Context, s adapters.Source) error {
			if err := require(s.Needs()); err != nil {
				return err
			}
			return declare(ctx, s)
		}
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if err := require(p.Needs()); err != nil {
				return err
			}
			return publish(ctx, p, msgs...)
		}
		m.async = func(ctx context.Context, p adapters.Publication, msg *message.Message, done func(error)) error {
			if err := require(p.Needs()); err != nil {
				return err
			}
			return async(ctx, p, msg, done)
		}
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			if err := require(s.Needs()); err != nil {
				return nil, err
			}
			return subscribe(ctx, s)
		}
		m.get = func(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
			if err := require(s.Needs() | adapters.CanGet); err != nil {
				return adapters.Delivery{}, err
			}
			return get(ctx, s)
		}
		unbind := m.unbind
		m.unbind = func(ctx context.Context, s adapters.Source) error {
			if err := require(s.Needs() | adapters.CanUnbind); err != nil {
				return err
			}
			return unbind(ctx, s)
		}
		cancel := m.cancel
		m.cancel = func(ctx context.Context, to adapters.Endpoint, id string) error {
			if err := require(adapters.CanCancel); err != nil {
				return err
			}
			return cancel(ctx, to, id)
		}
		limitInspector(m, require)
	}
}

// A case that uses an ability without saying so fails an adapter that lacks it.
func TestCasesSayWhatTheyNeed(t *testing.T) {
	for _, c := range Cases() {
		t.Run(c.ID, func(t *testing.T) {
			x := mutant{mutate: limited(c.Needs)}
			synctest.Test(t, func(t *testing.T) {
				report, err := check(t.Context(), []Case{c}, x.open, adapters.Features{Adapter: "memory", Ability: c.Needs})
				if err != nil || !report.Passed() {
					t.Errorf("with no ability but %q: %v %q", c.Needs, err, report.Results[0].Why)
				}
			})
		})
	}
}

// An adapter that claims next to nothing, and refuses the rest, is as good.
func TestCleanRefusalIsNoFailure(t *testing.T) {
	x := mutant{mutate: limited(0)}
	synctest.Test(t, func(t *testing.T) {
		report, err := check(t.Context(), Cases(), x.open, adapters.Features{Adapter: "memory"})
		if err != nil || !report.Passed() || report.Count(Refused) == 0 {
			t.Errorf("%v: %s", err, report.Summary())
			for _, r := range report.Results {
				if r.Outcome == Fail {
					t.Errorf("%s: %q", r.ID, r.Why)
				}
			}
		}
	})
}
