package deadletters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
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
			if _, err := s.driver.Purge(t.Context(), "orders.dead"); err != nil {
				t.Fatal(err)
			}
			s.die(t, n)
			ctx := context.Background() // which has no Done
			report, err := New(s.driver, "orders.dead").Replay(ctx, ReplayOptions{})
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
	for _, sent := range []adapters.Delivery{a, b} {
		if at, err := time.Parse(time.RFC3339, sent.Message.Metadata[patterns.HeaderSentBackAt]); err != nil || time.Since(at) > time.Minute {
			t.Errorf("it says that it was sent back at %v, %v", at, err)
		}
		delete(sent.Message.Metadata, patterns.HeaderSentBackAt)
	}
	if !a.Message.Equals(b.Message) || a.Attempt != b.Attempt || a.Key != b.Key || a.ContentType != b.ContentType {
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

// TestInterruptedReplay: what was sent when ctx ends is taken away, and the rest stays in its
// order.
func TestInterruptedReplay(t *testing.T) {
	s := newSite(t)
	s.die(t, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := 0
	report, err := New(s.driver, "orders.dead").Replay(ctx, ReplayOptions{Progress: func(*Letter, string) {
		if done++; done == 40 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || report.Sent != done || len(report.Doubtful) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	sent, left := s.ids(t, "orders"), s.ids(t, "orders.dead")
	if len(sent) != done || !slices.Equal(append(sent, left...), names(0, 100)) {
		t.Errorf("sent %q, left %q", sent, left)
	}
}

// TestUnconfirmedIsDoubtful: a letter whose confirm was lost is sent again, and reported.
func TestUnconfirmedIsDoubtful(t *testing.T) {
	s := newSite(t)
	s.die(t, 10)
	defer s.broker.Inject(memory.Fault{On: memory.OnPublish, Name: "orders", Times: 1, Do: memory.DropConfirm})()
	report, err := New(s.driver, "orders.dead").Replay(t.Context(), ReplayOptions{})
	if err != nil || report.Sent != 10 || len(report.Doubtful) != 1 || report.Doubtful[0].Why != MaybeSentTwice {
		t.Fatalf("%+v, %v", report, err)
	}
	copies := map[string]int{}
	for _, id := range s.ids(t, "orders") {
		copies[id]++
	}
	for _, id := range names(0, 10) {
		want := 1
		if id == report.Doubtful[0].Ref {
			want = 2
		}
		if copies[id] != want {
			t.Errorf("%s is there %d times, want %d", id, copies[id], want)
		}
	}
}

// TestComesAgainThoughSent: letters whose acknowledgements are lost with the session come again,
// and are taken away.
func TestComesAgainThoughSent(t *testing.T) {
	s := newSite(t)
	s.die(t, 100)
	done := 0
	report, err := New(s.driver, "orders.dead").Replay(t.Context(), ReplayOptions{Progress: func(*Letter, string) {
		if done++; done%20 == 0 && done < 80 {
			s.broker.Restart()
		}
	}})
	if err != nil || len(report.Failed) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	copies := map[string]int{}
	for _, id := range s.ids(t, "orders") {
		copies[id]++
	}
	for _, id := range names(0, 100) {
		doubtful := slices.ContainsFunc(report.Doubtful, func(d Doubt) bool { return d.Ref == id })
		if copies[id] == 0 || copies[id] > 1 && !doubtful {
			t.Errorf("%s is there %d times; in the report: %v", id, copies[id], doubtful)
		}
	}
	if left := s.ids(t, "orders.dead"); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// losesAcks is a driver that says of acknowledgements that they were sent, and loses them while
// losing is true. While low is true it says that a queue holds less than it does, as RabbitMQ may
// of one that is busy: that it is empty if that is nearly so.
type losesAcks struct {
	*memory.Client
	losing, low   atomic.Bool
	subscriptions atomic.Int32
}

func (d *losesAcks) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	d.subscriptions.Add(1)
	sub, err := d.Client.Subscribe(ctx, s)
	return acksLost{sub, d}, err
}

func (d *losesAcks) Inspect(ctx context.Context, queue string) (adapters.QueueInfo, error) {
	info, err := d.Client.Inspect(ctx, queue)
	if d.low.Load() {
		info.Ready = min(info.Ready/30, 1)
	}
	return info, err
}

type acksLost struct {
	adapters.Subscription
	driver *losesAcks
}

func (s acksLost) Receive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.Subscription.Receive(ctx)
	d.Settler = lostSettler{d.Settler, s.driver}
	return d, err
}

type lostSettler struct {
	adapters.Settler
	driver *losesAcks
}

func (s lostSettler) Settle(ctx context.Context, o adapters.Outcome) error {
	if o == adapters.Ack && s.driver.losing.Load() {
		s.driver.low.Store(true)
		return nil
	}
	return s.Settler.Settle(ctx, o)
}

// TestLostAcksAreNotCounted: letters whose acknowledgements were sent and never arrived come again,
// in the place of none that were not looked at yet.
func TestLostAcksAreNotCounted(t *testing.T) {
	s := newSite(t)
	s.die(t, 100)
	driver := &losesAcks{Client: s.driver}
	done := 0
	report, err := New(driver, "orders.dead").Replay(t.Context(), ReplayOptions{Progress: func(*Letter, string) {
		switch done++; done {
		case 40:
			driver.losing.Store(true)
		case 50:
			driver.losing.Store(false)
			s.broker.Restart()
		}
	}})
	if err != nil || report.Sent != 100 || report.Recognized < 10 {
		t.Errorf("%+v, %v", report, err)
	}
	if left := s.ids(t, "orders.dead"); len(left) > 0 {
		t.Errorf("left %q", left)
	}
	if n := driver.subscriptions.Load(); n != 2 {
		t.Errorf("%d subscriptions, want one before the restart and one after it", n)
	}
}

// TestWhatCameIsNotForgotten: the queue holds more than it says, of which some has been delivered.
func TestWhatCameIsNotForgotten(t *testing.T) {
	s := newSite(t)
	s.die(t, 40)
	driver := &losesAcks{Client: s.driver}
	driver.low.Store(true)
	report, err := New(driver, "orders.dead").Replay(t.Context(), ReplayOptions{})
	if left := s.ids(t, "orders.dead"); err != nil || report.Sent != 40 || len(left) > 0 {
		t.Errorf("%+v, %v; left %q", report, err, left)
	}
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	s := newSite(t)
	s.die(t, 3)
	look, err := New(s.driver, "orders.dead").List(t.Context(), Filter{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	// A run that was killed: m0 was confirmed, m1 was being sent, and a line was cut.
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	for n, l := range look.Letters[:2] {
		if err := j.sending(l.digest(), l.Ref(), "orders"); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if err := j.confirms(l.digest()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.sending(look.Letters[2].digest(), "m2", "orders"); err != nil { // and twice, by two runs
		t.Fatal(err)
	}
	if err := j.sending(look.Letters[2].digest(), "m2", "orders"); err != nil {
		t.Fatal(err)
	}
	if _, err := j.file.WriteString("confirmed 01"); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(false); err != nil {
		t.Fatal(err)
	}
	if j, err = OpenJournal(path); err != nil {
		t.Fatal(err)
	}
	report, err := New(s.driver, "orders.dead").Replay(t.Context(), ReplayOptions{Journal: j})
	if err != nil || report.Sent != 2 || report.Recognized != 1 ||
		!slices.Equal(report.Doubtful, []Doubt{{"m2", "orders", MaybeBefore}, {"m1", "orders", MaybeBefore}}) {
		t.Errorf("%+v, %v", report, err)
	}
	if got := s.ids(t, "orders"); !slices.Equal(got, names(1, 3)) {
		t.Errorf("sent %q", got)
	}
	if err := j.Close(true); err != nil {
		t.Error(err)
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
