package deadletters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// site is a broker with a queue of dead letters.
type site struct {
	broker *memory.Broker
	driver *memory.Client
}

func newSite(t testing.TB, options ...memory.Option) *site {
	t.Helper()
	b := memory.New(options...)
	s := &site{b, b.Connect()}
	t.Cleanup(b.Close)
	return s
}

// die makes n dead letters of queue "orders": ids m0, m1, ...
func (s *site) die(t testing.TB, n int) {
	t.Helper()
	bus := patterns.New(s.broker.Connect(), patterns.WithLogger(slog.New(slog.DiscardHandler)))
	defer bus.Close(t.Context())
	orders := patterns.NewWorkQueue[string](bus, "orders")
	for i := range n {
		err := orders.Send(t.Context(), fmt.Sprint("dish ", i), patterns.MessageID(fmt.Sprint("m", i)), patterns.Header("table", fmt.Sprint(i%3)))
		if err != nil {
			t.Fatal(err)
		}
		m, err := orders.Get(t.Context())
		if err == nil {
			err = m.Reject(t.Context(), fmt.Errorf("no spoon %d", i%2))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// ids returns what waits in a queue, in order.
func (s *site) ids(t testing.TB, queue string) (ids []string) {
	t.Helper()
	found, err := s.driver.Browse(t.Context(), queue, adapters.MaxBrowse)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range found {
		ids = append(ids, d.Message.UUID)
	}
	return ids
}

func names(from, to int) (ids []string) {
	for i := from; i < to; i++ {
		ids = append(ids, fmt.Sprint("m", i))
	}
	return ids
}

func TestReplay(t *testing.T) {
	for _, n := range []int{0, 1, 31, 32, 33, 200} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := newSite(t)
			s.die(t, 1)
			s.broker.Purge("orders.dead")
			s.die(t, n)
			report, err := New(s.driver, "orders.dead").Replay(t.Context(), ReplayOptions{})
			if err != nil || report.Sent != n || len(report.Doubtful)+len(report.Failed)+report.Kept != 0 {
				t.Fatalf("%+v, %v", report, err)
			}
			if got := s.ids(t, "orders"); !slices.Equal(got, names(0, n)) {
				t.Errorf("sent %q", got)
			}
			if got := s.ids(t, "orders.dead"); len(got) > 0 {
				t.Errorf("left %q", got)
			}
		})
	}
}

// TestReplayIsRedrive: both send the same.
func TestReplayIsRedrive(t *testing.T) {
	sent := func(send func(*site) error) adapters.Delivery {
		s := newSite(t)
		s.die(t, 1)
		if err := send(s); err != nil {
			t.Fatal(err)
		}
		found, err := s.driver.Browse(t.Context(), "orders", 1)
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		return found[0]
	}
	a := sent(func(s *site) error {
		_, err := New(s.driver, "orders.dead").Replay(t.Context(), ReplayOptions{})
		return err
	})
	b := sent(func(s *site) error {
		bus := patterns.New(s.broker.Connect())
		_, err := patterns.NewWorkQueue[patterns.Raw](bus, "orders").Dead().Redrive(t.Context())
		return err
	})
	if a.Message.Metadata[HeaderReplay] == "" {
		t.Error("it does not say that it was replayed")
	}
	delete(a.Message.Metadata, HeaderReplay)
	if !a.Message.Equals(b.Message) || a.Properties.Attempt != b.Properties.Attempt || a.Key != b.Key || a.ContentType != b.ContentType {
		t.Errorf("replayed %+v, redriven %+v", a, b)
	}
}

func TestReplayKeepsTheOrderOfTheRest(t *testing.T) {
	for _, options := range [][]memory.Option{nil, {memory.ClassicQueues()}, {memory.RabbitMQ(memory.RabbitMQ310)}} {
		for _, limit := range []int{0, 5, 40} {
			s := newSite(t, options...)
			s.die(t, 200)
			report, err := New(s.driver, "orders.dead").Replay(t.Context(), ReplayOptions{
				Limit: limit, Filter: Filter{Headers: []HeaderMatch{{Name: "table", Value: "0"}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			var sent, left []string
			for i := range 200 {
				if i%3 == 0 && (limit == 0 || len(sent) < limit) {
					sent = append(sent, fmt.Sprint("m", i))
				} else {
					left = append(left, fmt.Sprint("m", i))
				}
			}
			if got := s.ids(t, "orders"); report.Sent != len(sent) || !slices.Equal(got, sent) {
				t.Errorf("limit %d: sent %d, %q", limit, report.Sent, got)
			}
			if got := s.ids(t, "orders.dead"); !slices.Equal(got, left) {
				t.Errorf("limit %d: left %q", limit, got)
			}
		}
	}
}

// TestWhatComesBackIsLeft: a letter that dies again during the run is not sent again.
func TestWhatComesBackIsLeft(t *testing.T) {
	s := newSite(t)
	s.die(t, 50)
	bus := patterns.New(s.broker.Connect(), patterns.WithLogger(slog.New(slog.DiscardHandler)))
	defer bus.Close(context.Background())
	var tried atomic.Int32
	_, err := patterns.NewWorkQueue[string](bus, "orders").Work(t.Context(), func(context.Context, string) error {
		tried.Add(1)
		return patterns.Reject(errors.New("still no spoon"))
	})
	if err != nil {
		t.Fatal(err)
	}
	// At a rate at which each letter is back before the next one is sent, or nearly.
	report, err := New(s.driver, "orders.dead").Replay(t.Context(), ReplayOptions{Every: time.Millisecond})
	if err != nil || report.Sent != 50 {
		t.Fatalf("%+v, %v", report, err)
	}
	for tried.Load() < 50 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	for len(s.ids(t, "orders.dead")) < 50 {
		time.Sleep(time.Millisecond)
	}
	if n := tried.Load(); n != 50 {
		t.Errorf("tried %d times", n)
	}
	again, err := New(s.driver, "orders.dead").Replay(t.Context(), ReplayOptions{})
	if err != nil || again.Sent != 50 {
		t.Errorf("in the next run: %+v, %v", again, err)
	}
}

func TestReplayFailures(t *testing.T) {
	s := newSite(t)
	s.die(t, 3)
	dead := New(s.driver, "orders.dead")
	if _, err := dead.Replay(t.Context(), ReplayOptions{To: "orders.dead"}); !errors.Is(err, adapters.ErrInvalid) {
		t.Error(err)
	}
	report, err := dead.Replay(t.Context(), ReplayOptions{To: "nowhere"})
	if err != nil || len(report.Failed) != 3 || !errors.Is(report.Failed[0].Err, adapters.ErrUnroutable) {
		t.Errorf("%+v, %v", report, err)
	}
	if _, err := New(s.driver, "missing").Replay(t.Context(), ReplayOptions{}); !errors.Is(err, adapters.ErrNotFound) {
		t.Error(err)
	}
	if got := s.ids(t, "orders.dead"); !slices.Equal(got, names(0, 3)) {
		t.Error(got)
	}
	stray := message.NewMessage("stray", nil)
	if err := s.driver.Declare(t.Context(), adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "odd"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.driver.Publish(t.Context(), adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "odd"}}, stray); err != nil {
		t.Fatal(err)
	}
	report, err = New(s.driver, "odd").Replay(t.Context(), ReplayOptions{})
	if err != nil || len(report.Failed) != 1 || !errors.Is(report.Failed[0].Err, adapters.ErrInvalid) {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestDrop(t *testing.T) {
	s := newSite(t)
	s.die(t, 100)
	report, err := New(s.driver, "orders.dead").Drop(t.Context(), Filter{Headers: []HeaderMatch{{Name: "table", Value: "1"}}}, 0)
	if err != nil || report.Removed != 33 || report.Kept != 67 {
		t.Errorf("%+v, %v", report, err)
	}
	if got := s.ids(t, "orders.dead"); len(got) != 67 || got[1] != "m2" {
		t.Error(got)
	}
}
