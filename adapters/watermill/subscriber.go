package watermill

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// SubscriberConfig configures a [Subscriber]. From must be set.
type SubscriberConfig struct {
	// From says where the messages of a topic come from: [FromFanout], [FromGroup], [FromQueue], or
	// a function of the caller's own, which may set every field of a Source.
	From func(topic string) adapters.Source

	// Prefetch is how many messages of each Subscribe are in hand at once. 0 means the Source's
	// own, or, if that is 0 too, 1: the next message comes when the one before is acked or nacked,
	// as watermill's order requires.
	Prefetch int

	// NackDelay has a nacked message wait at the broker before it comes again, behind those that
	// came in the meantime and with its attempt counted. If the process dies at that moment it may
	// come twice. It needs CanDelay, and a source that is not private.
	//
	// Without NackDelay or NackRejects a nacked message comes again at once, in its old place: a
	// handler that always fails is called in a hot loop. Then wrap it in watermill's
	// middleware.Retry and middleware.PoisonQueue.
	NackDelay time.Duration

	// NackRejects gives a nacked message to the dead-letter queue of its Source,
	// or drops it where there is none. Not with NackDelay.
	NackRejects bool

	// CloseTimeout is how long messages in hand may still be acked or nacked once their
	// subscription has ended; then they go back to the queue. The default is 30 s.
	CloseTimeout time.Duration

	// Logger logs why a subscription ended and what could not be settled. The default is not to
	// log.
	Logger wm.LoggerAdapter
}

// Subscriber is a driver as watermill's message.Subscriber. It is safe for concurrent use.
//
// Acking a message settles it as Ack. Nacking it settles it as Requeue, unless NackDelay or
// NackRejects says otherwise; once its subscription has ended it is always requeued, because then
// the handler was interrupted rather than wrong.
//
// The context of a message has the values of the one given to Subscribe, and what [DeliveryFrom]
// finds. It ends when the message is acked or nacked, when its subscription ends, when the session
// that delivered it is lost (with the cause ErrSessionLost: the message will come again), and when
// the driver is closed. Even after a session was lost, the next message comes only when the one in
// hand is acked or nacked, though that no longer settles anything.
type Subscriber struct {
	driver adapters.Driver
	cfg    SubscriberConfig

	ctx    context.Context // of everything it does; ended by Close
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	closed bool
	feeds  sync.WaitGroup
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// NewSubscriber returns a subscriber on d. The caller closes the subscriber, and then d. What is
// wrong with cfg is reported by Subscribe.
func NewSubscriber(d adapters.Driver, cfg SubscriberConfig) *Subscriber {
	cfg.CloseTimeout = cmp.Or(cfg.CloseTimeout, 30*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = wm.NopLogger{}
	}
	s := &Subscriber{driver: d, cfg: cfg}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// Subscribe declares the topic's source and returns the channel of its
// messages. What is published from then on reaches it. The channel is closed
// when ctx ends, by Close, and when the driver ends the subscription.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	src, err := s.source(topic)
	var f *feed
	if err == nil {
		f, err = s.newFeed(ctx, topic, src)
	}
	if err != nil {
		s.feeds.Done()
		return nil, fmt.Errorf("subscribe to topic %q: %w", topic, err)
	}
	go func() {
		defer s.feeds.Done()
		f.run()
	}()
	return f.out, nil
}

// SubscribeInitialize declares the topic's source, so that what is published
// before the first Subscribe is kept for it. A private source keeps nothing.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.feeds.Done()
	src, err := s.source(topic)
	if err == nil {
		err = s.driver.Declare(s.ctx, src)
	}
	if err != nil {
		return fmt.Errorf("initialize topic %q: %w", topic, err)
	}
	return nil
}

// Close ends all subscriptions and closes their channels, and returns when
// what was in hand is settled, after CloseTimeout at the latest. It does not
// close the driver. Closing twice is harmless.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel(adapters.ErrStopped)
	s.feeds.Wait()
	return nil
}

// begin lets Close wait for what follows, until feeds.Done.
func (s *Subscriber) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return adapters.ErrClosed
	}
	s.feeds.Add(1)
	return nil
}

// source returns the topic's source, or what is wrong with it.
func (s *Subscriber) source(topic string) (adapters.Source, error) {
	if s.driver == nil || s.cfg.From == nil {
		return adapters.Source{}, fmt.Errorf("%w: a subscriber needs a driver and where its topics come from", adapters.ErrInvalid)
	}
	src := s.cfg.From(topic)
	src.Prefetch = cmp.Or(s.cfg.Prefetch, src.Prefetch, 1)
	if err := src.ValidateSubscribe(); err != nil {
		return src, err
	}
	f := s.driver.Features()
	need := src.Needs()
	if s.cfg.NackDelay != 0 {
		need |= adapters.CanDelay
	}
	if err := f.Require(need); err != nil {
		return src, err
	}
	var wrong string
	switch d := s.cfg.NackDelay; {
	case s.cfg.CloseTimeout < 0:
		wrong = "negative close timeout"
	case d == 0:
	case d < 0:
		wrong = "negative nack delay"
	case s.cfg.NackRejects:
		wrong = "a nacked message cannot both wait and be rejected"
	case src.Private():
		wrong = "nack delay: a private source has no queue that others can publish to"
	case f.MaxDelay > 0 && d > f.MaxDelay:
		wrong = fmt.Sprintf("nack delay of %v, at most %v is possible", d, f.MaxDelay)
	}
	if wrong != "" {
		return src, fmt.Errorf("%w: %s", adapters.ErrInvalid, wrong)
	}
	return src, nil
}
