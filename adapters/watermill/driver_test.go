package watermill_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/watermill"
)

// newDriver makes a driver that is closed with the test, which must work.
func newDriver(t *testing.T, cfg watermill.Config) *watermill.Driver {
	t.Helper()
	if cfg.Publisher == nil {
		cfg.Publisher = &fakePublisher{}
	}
	if cfg.Subscriber == nil {
		cfg.Subscriber = newFakeSubscriber()
	}
	if cfg.Adapter == "" {
		cfg.Adapter = "fake"
	}
	d, err := watermill.NewDriver(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeDriver(t, d) })
	return d
}

func closeDriver(t *testing.T, d adapters.Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Error(err)
	}
}

func endpoint(kind adapters.Kind, name string) adapters.Endpoint {
	return adapters.Endpoint{Kind: kind, Name: name}
}

func source(kind adapters.Kind, name, group string) adapters.Source {
	s := adapters.Source{Endpoint: endpoint(kind, name), Group: group, Prefetch: 1}
	if kind.UsesKeys() {
		s.Keys = []string{"key"}
	}
	return s
}

// subscribe subscribes to the queue q.
func subscribe(t *testing.T, d *watermill.Driver, prefetch int) adapters.Subscription {
	t.Helper()
	src := source(adapters.Queue, "q", "")
	src.Prefetch = prefetch
	sub, err := d.Subscribe(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func receive(t *testing.T, sub adapters.Subscription) adapters.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, err := sub.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConfigMustMakeSense(t *testing.T) {
	p, s := &fakePublisher{}, newFakeSubscriber()
	groups := func(string) (message.Subscriber, error) { return s, nil }
	for name, cfg := range map[string]watermill.Config{
		"no publisher":            {Subscriber: s},
		"no subscriber":           {Publisher: p},
		"groups without fanout":   {Publisher: p, Subscriber: s, Groups: groups},
		"what no pair has":        {Publisher: p, Subscriber: s, Claim: adapters.CanDelay},
		"redelivered, in place":   {Publisher: p, Subscriber: s, Claim: adapters.CanRequeue},
		"fair without competing":  {Publisher: p, Subscriber: s, Claim: adapters.CanBalance},
		"fanout without its pair": {Publisher: p, Subscriber: s, Claim: adapters.CanFanout},
	} {
		if _, err := watermill.NewDriver(cfg); !errors.Is(err, adapters.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

// passworded is a publisher that fmt prints with all that is in it.
type passworded struct {
	fakePublisher
	password string
}

func TestPrintsNothingOfThePair(t *testing.T) {
	d, err := watermill.NewDriver(watermill.Config{Publisher: &passworded{password: "s3cret"}, Subscriber: newFakeSubscriber(), Adapter: "nats"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		if text := fmt.Sprintf(verb, d); text != "watermill.Driver(nats)" {
			t.Errorf("%s: %s", verb, text)
		}
	}
}

func TestFeaturesAreWhatIsStated(t *testing.T) {
	s := newFakeSubscriber()
	for _, c := range []struct {
		cfg  watermill.Config
		want adapters.Ability
	}{
		{watermill.Config{}, 0},
		{watermill.Config{Fanout: s}, adapters.CanFanout},
		{watermill.Config{Fanout: s, Groups: func(string) (message.Subscriber, error) { return s, nil }}, adapters.CanFanout | adapters.CanGroup},
		{watermill.Config{Competing: true, Claim: adapters.CanBalance | adapters.CanPersist | adapters.CanConfirm}, adapters.CanBalance | adapters.CanPersist | adapters.CanConfirm},
	} {
		if got := newDriver(t, c.cfg).Features(); got.Ability != c.want || got.Adapter != "fake" {
			t.Errorf("%+v, want %v", got, c.want)
		}
	}
}

// TestRefusesWhatIsNotStated: everything that needs an ability is refused
// before anything reaches the pair.
func TestRefusesWhatIsNotStated(t *testing.T) {
	pub, sub := &fakePublisher{}, newFakeSubscriber()
	d := newDriver(t, watermill.Config{Publisher: pub, Subscriber: sub})
	refused := func(what string, need adapters.Ability, err error) {
		t.Helper()
		var u *adapters.UnsupportedError
		if !errors.As(err, &u) || u.Adapter != "fake" || u.Missing != need {
			t.Errorf("%s: %v, want %v to be missing", what, err, need)
		}
	}
	for kind, need := range map[adapters.Kind]adapters.Ability{
		adapters.Fanout: adapters.CanFanout, adapters.Direct: adapters.CanRoute, adapters.Topic: adapters.CanTopic, adapters.Reply: adapters.CanReply,
	} {
		refused("publish to "+kind.String(), need, d.Publish(t.Context(), adapters.Publication{To: endpoint(kind, "x")}, messages("a")...))
		src := source(kind, "x", "")
		if kind == adapters.Reply {
			src.Name = ""
		}
		_, err := d.Subscribe(t.Context(), src)
		refused("subscribe to "+kind.String(), need, err)
		refused("declare "+kind.String(), need, d.Declare(t.Context(), src))
	}
	q := endpoint(adapters.Queue, "q")
	for need, p := range map[adapters.Ability]adapters.Publication{
		adapters.CanDelay:      {To: q, Delay: time.Second},
		adapters.CanReturn:     {To: q, Mandatory: true},
		adapters.CanExpire:     {To: q, Properties: adapters.Properties{TTL: time.Second}},
		adapters.CanPrioritize: {To: q, Properties: adapters.Properties{Priority: 1}},
	} {
		refused(need.String(), need, d.Publish(t.Context(), p, messages("a")...))
	}
	for need, spec := range map[adapters.Ability]adapters.QueueSpec{
		adapters.CanDeadLetter: {DeadLetter: "dead"},
		adapters.CanLimit:      {MaxLength: 1},
		adapters.CanExpire:     {MessageTTL: time.Second},
		adapters.CanPrioritize: {MaxPriority: 1},
	} {
		_, err := d.Subscribe(t.Context(), adapters.Source{Endpoint: q, Prefetch: 1, Queue: spec})
		refused(need.String(), need, err)
	}
	passive := source(adapters.Queue, "q", "")
	passive.Passive = true
	refused("passive", adapters.CanPassive, d.Declare(t.Context(), passive))
	temporary := source(adapters.Queue, "q", "")
	temporary.Queue.AutoDelete = true
	refused("auto-delete", adapters.CanAutoDelete, d.Declare(t.Context(), temporary))
	if pub.sent.Load() > 0 || sub.topics.Load() > 0 {
		t.Errorf("%d messages and %d topics reached the pair", pub.sent.Load(), sub.topics.Load())
	}
}

func TestValidatesFirst(t *testing.T) {
	d := newDriver(t, watermill.Config{})
	if err := d.Publish(t.Context(), adapters.Publication{}, messages("a")...); !errors.Is(err, adapters.ErrInvalid) {
		t.Error(err)
	}
	if _, err := d.Subscribe(t.Context(), adapters.Source{Endpoint: endpoint(adapters.Queue, "q")}); !errors.Is(err, adapters.ErrInvalid) {
		t.Errorf("no prefetch: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Declare(ended, source(adapters.Queue, "q", "")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := d.Publish(ended, adapters.Publication{To: endpoint(adapters.Queue, "q")}, messages("a")...); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestDeclareInitializes(t *testing.T) {
	s := newFakeSubscriber()
	d := newDriver(t, watermill.Config{Subscriber: s})
	if err := d.Declare(t.Context(), source(adapters.Queue, "q", "")); err != nil || s.topics.Load() != 1 {
		t.Errorf("%v, %d topics initialized", err, s.topics.Load())
	}
	s.fail = errFake
	if err := d.Declare(t.Context(), source(adapters.Queue, "q", "")); !errors.Is(err, errFake) {
		t.Errorf("%v, want what the subscriber said", err)
	}
}

// TestGroups: each has one subscriber, made once it works, and closed once.
func TestGroups(t *testing.T) {
	made := map[string]int{}
	s := newFakeSubscriber("a")
	d := newDriver(t, watermill.Config{Fanout: newFakeSubscriber(), Groups: func(group string) (message.Subscriber, error) {
		if made[group]++; made[group] == 1 {
			return nil, errFake
		}
		return s, nil
	}})
	src := source(adapters.Fanout, "f", "g")
	if _, err := d.Subscribe(t.Context(), src); !errors.Is(err, errFake) {
		t.Errorf("%v, want what Groups said", err)
	}
	for range 2 {
		if err := d.Declare(t.Context(), src); err != nil {
			t.Fatal(err)
		}
	}
	sub, err := d.Subscribe(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	if m := receive(t, sub).Message; m.UUID != "a" || sub.Address() != "" {
		t.Errorf("received %v at %q", m, sub.Address())
	}
	if err := d.Close(t.Context()); err != nil || made["g"] != 2 || s.closed.Load() != 1 {
		t.Errorf("%v, made %d times, closed %d times", err, made["g"], s.closed.Load())
	}
}

// TestOneTopicIsOneThing: a queue and an exchange of one name would be one
// topic, and get each other's messages.
func TestOneTopicIsOneThing(t *testing.T) {
	d := newDriver(t, watermill.Config{Fanout: newFakeSubscriber()})
	if err := d.Publish(t.Context(), adapters.Publication{To: endpoint(adapters.Fanout, "x")}, messages("a")...); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"publish": d.Publish(t.Context(), adapters.Publication{To: endpoint(adapters.Queue, "x")}, messages("a")...),
		"declare": d.Declare(t.Context(), source(adapters.Queue, "x", "")),
	} {
		if !errors.Is(err, adapters.ErrMismatch) {
			t.Errorf("%s: %v, want ErrMismatch", name, err)
		}
	}
}

func TestClose(t *testing.T) {
	both := gochannel.NewGoChannel(gochannel.Config{}, nil)
	pub, s := &fakePublisher{}, newFakeSubscriber("settled", "a")
	d := newDriver(t, watermill.Config{Publisher: pub, Subscriber: s, Fanout: both})
	sub := subscribe(t, d, 2)
	settled := receive(t, sub)
	if err := settled.Settle(t.Context(), adapters.Ack); err != nil {
		t.Fatal(err)
	}
	inHand := receive(t, sub)
	received := make(chan error)
	go func() {
		_, err := sub.Receive(t.Context())
		received <- err
	}()
	for range 2 {
		if err := d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-received; !errors.Is(err, adapters.ErrClosed) {
		t.Errorf("waiting Receive: %v", err)
	}
	if cause := context.Cause(inHand.Message.Context()); !errors.Is(cause, adapters.ErrClosed) {
		t.Errorf("the message's context ended with %v", cause)
	}
	for _, d := range []adapters.Delivery{inHand, inHand, settled} {
		if err := d.Settle(t.Context(), adapters.Ack); !errors.Is(err, adapters.ErrClosed) {
			t.Errorf("late settle of %s: %v", d.Message.UUID, err)
		}
	}
	if len(s.queue) != 1 {
		t.Errorf("%d messages are back, want that in hand", len(s.queue))
	}
	if pub.closed.Load() != 1 || s.closed.Load() != 1 {
		t.Errorf("publisher closed %d times, subscriber %d", pub.closed.Load(), s.closed.Load())
	}
	for name, err := range map[string]error{
		"publish":   d.Publish(t.Context(), adapters.Publication{To: endpoint(adapters.Queue, "q")}, messages("a")...),
		"declare":   d.Declare(t.Context(), source(adapters.Queue, "q", "")),
		"receive":   func() error { _, err := sub.Receive(t.Context()); return err }(),
		"subscribe": func() error { _, err := d.Subscribe(t.Context(), source(adapters.Queue, "q", "")); return err }(),
	} {
		if !errors.Is(err, adapters.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

// TestCloseOfOneValue: a pair that is one value is closed once.
func TestCloseOfOneValue(t *testing.T) {
	one := &oneValue{fakeSubscriber: newFakeSubscriber()}
	d := newDriver(t, watermill.Config{Publisher: one, Subscriber: one, Fanout: one})
	if err := d.Close(t.Context()); err != nil || one.closed.Load() != 1 {
		t.Errorf("%v, closed %d times", err, one.closed.Load())
	}
}

type oneValue struct{ *fakeSubscriber }

func (oneValue) Publish(string, ...*message.Message) error { return nil }
