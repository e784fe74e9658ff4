package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
	"github.com/motifmq/motif/deadletters"
)

// numbered returns messages with the ids 0 to n-1.
func numbered(n int) (all []*message.Message) {
	for i := range n {
		all = append(all, message.NewMessage(fmt.Sprint(i), nil))
	}
	return all
}

// TestBrowseKnowsWhatIsSettled: what was settled before what is in front of it is not shown.
func TestBrowseKnowsWhatIsSettled(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(4)
	must(t, d.Declare(ctx, s))
	must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint}, numbered(5)...))
	sub, err := d.Subscribe(ctx, s)
	must(t, err)
	for i := range 4 { // 4 is not delivered
		got := receive(ctx, t, sub)
		if i == 1 || i == 2 {
			must(t, got.Settle(ctx, adapters.Ack))
		} else {
			defer got.Settle(ctx, adapters.Ack) //nolint:errcheck // the test is over
		}
	}
	must(t, sub.Stop())
	want, seen := []string{"0", "3", "4"}, []string(nil)
	for !slices.Equal(seen, want) { // what was settled the broker knows a moment later
		found, err := d.Browse(ctx, s.Name, 10)
		if err != nil {
			t.Fatalf("browsed %q, want %q: %v", seen, want, err)
		}
		seen = nil
		for _, m := range found {
			seen = append(seen, m.Message.UUID)
		}
	}
	if first, err := d.Browse(ctx, s.Name, 1); err != nil || len(first) != 1 || first[0].Remaining != 2 {
		t.Errorf("browsed %+v, %v", first, err)
	}
	if info, err := d.Inspect(ctx, s.Name); err != nil || info.Ready+info.Unacked != 3 {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestPurgeManyAndFew: a purge takes more than it asks for at once, and leaves what is in hand.
func TestPurgeManyAndFew(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(1)
	must(t, d.Declare(ctx, s))
	if n, err := d.Purge(ctx, s.Name); n != 0 || err != nil {
		t.Errorf("%d purged of nothing, %v", n, err)
	}
	const many = 2*purgeBatch + 10
	must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint}, numbered(many)...))
	sub, err := d.Subscribe(ctx, s)
	must(t, err)
	held := receive(ctx, t, sub)
	if n, err := d.Purge(ctx, s.Name); n != many-1 || err != nil {
		t.Errorf("%d of %d purged, %v", n, many-1, err)
	}
	must(t, held.Settle(ctx, adapters.Requeue))
	if again := receive(ctx, t, sub); again.Message.UUID != held.Message.UUID {
		t.Errorf("%s came back, not %s", again.Message.UUID, held.Message.UUID)
	} else {
		must(t, again.Settle(ctx, adapters.Ack))
	}
}

// TestDeadLettersAreListedAndSentBack: package deadletters finds them, tells why, and sends them to
// where they died, all of them and each once.
func TestDeadLettersAreListedAndSentBack(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(10)
	s.Queue.DeadLetter = s.Name + "-dead"
	sub, err := d.Subscribe(ctx, s)
	must(t, err)
	const many = 5
	must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint}, numbered(many)...))
	for range many {
		must(t, receive(ctx, t, sub).Settle(ctx, adapters.Reject))
	}
	letters := deadletters.New(d, s.Queue.DeadLetter)
	look, err := letters.List(ctx, deadletters.Filter{}, many-1)
	must(t, err)
	if len(look.Letters) != many-1 || look.Unseen != 1 || look.Letters[0].From() != s.Name || look.Letters[0].Reason() == "" {
		t.Errorf("listed %d and left %d: %+v", len(look.Letters), look.Unseen, look.Letters)
	}
	report, err := letters.Replay(ctx, deadletters.ReplayOptions{})
	must(t, err)
	if report.Sent != many {
		t.Errorf("%+v", report)
	}
	came := map[string]bool{}
	for range many {
		got := receive(ctx, t, sub)
		came[got.Message.UUID] = true
		must(t, got.Settle(ctx, adapters.Ack))
	}
	if len(came) != many {
		t.Errorf("%v came back", came)
	}
	for q := (adapters.QueueInfo{Ready: -1}); q.Ready+q.Unacked != 0; { // what was settled the broker knows a moment later
		q, err = d.Inspect(ctx, s.Queue.DeadLetter)
		must(t, err)
	}
}

// TestLongNames: what has a name that is too long for Kafka is listed by that name, too, and a
// queue that is deleted takes its bindings along.
func TestLongNames(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	long := newQueue(1).Name + strings.Repeat("é", 60)
	s := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Direct, Name: long}, Group: "Billing.EU_1", Keys: []string{"key"}}
	must(t, d.Declare(ctx, s))
	listed := 0
	for info, err := range d.Queues(ctx) {
		must(t, err)
		if info.Name == s.QueueName() {
			listed++
		}
	}
	if listed != 1 {
		t.Errorf("the queue is listed %d times", listed)
	}
	bound, err := d.Bindings(ctx, s.QueueName())
	if want := []adapters.Binding{{Exchange: long, Key: "key"}}; err != nil || !slices.Equal(bound, want) {
		t.Errorf("bound to %v, %v; want %v", bound, err, want)
	}
	must(t, d.Delete(ctx, s.QueueName(), adapters.IfUnused|adapters.IfEmpty))
	if left, err := d.routes.Queues(ctx, long); len(left) > 0 || err != nil {
		t.Errorf("still bound: %v, %v", left, err)
	}
	if _, err := d.Inspect(ctx, s.QueueName()); !errors.Is(err, adapters.ErrNotFound) {
		t.Errorf("of a queue that was deleted: %v", err)
	}
}

func TestNameOf(t *testing.T) {
	for _, name := range []string{"orders", "orders.EU_1", "a b/é", "-", "amq.gen-x"} {
		if got, ok := nameOf(token(name)); !ok || got != name {
			t.Errorf("%q is %q, and then %q", name, token(name), got)
		}
	}
	for _, foreign := range []string{"_", "_2", "_zz", hashed + "00"} {
		if name, ok := nameOf(foreign); ok {
			t.Errorf("%q is the name %q", foreign, name)
		}
	}
}

// TestAskingAgain: what a broker does not answer is asked again while ctx allows, however long one
// attempt took; where ctx has no end, not forever.
func TestAskingAgain(t *testing.T) {
	refused := errors.New("refused")
	for name, test := range map[string]struct {
		lost   int           // attempts
		takes  time.Duration // each of them
		answer error         // to the one after them
		within time.Duration // 0: ctx has no deadline
		want   error
		asked  int
	}{
		"at once":                 {0, 0, nil, time.Minute, nil, 1},
		"after three":             {3, time.Second, nil, time.Minute, nil, 4},
		"after a long one":        {1, apiTimeout + time.Second, nil, time.Minute, nil, 2},
		"with no deadline":        {1, apiTimeout + time.Second, nil, 0, nil, 2},
		"never":                   {1000, apiTimeout + time.Second, nil, time.Minute, context.DeadlineExceeded, 4},
		"never, with no deadline": {1000, apiTimeout + time.Second, nil, 0, context.DeadlineExceeded, 2},
		"refused":                 {1, time.Second, refused, time.Minute, refused, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &Driver{tasks: kit.NewTasks(), life: t.Context()}
				ctx := t.Context()
				if test.within > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.within)
					defer cancel()
				}
				asked := 0
				err := d.ask(ctx, "inspect", func(ctx context.Context) error {
					if asked++; asked > test.lost {
						return test.answer
					}
					select {
					case <-time.After(test.takes):
					case <-ctx.Done():
					}
					return adapters.ErrUnavailable
				})
				if !errors.Is(err, test.want) || asked != test.asked {
					t.Errorf("%v, and it was asked %d times", err, asked)
				}
			})
		})
	}
}
