package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// run is the value of scheduled messages in tests: the time they are for.
type run struct{ At time.Time }

func runAt(at time.Time) run { return run{at} }

// replicas is processes with a schedule on one broker, in a bubble.
type replicas struct {
	t      *testing.T
	broker *memory.Broker
	logged lockedLog
}

type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func inReplicas(t *testing.T, f func(t *testing.T, r *replicas)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &replicas{t: t, broker: memory.New()}
		defer r.broker.Close()
		f(t, r)
	})
}

// connect returns a bus on d, or on a client of its own.
func (r *replicas) connect(d adapters.Driver) *patterns.Bus {
	if d == nil {
		d = r.broker.Connect()
	}
	bus := patterns.New(d, patterns.WithLogger(slog.New(slog.NewTextHandler(&r.logged, nil))))
	r.t.Cleanup(func() { must(r.t, bus.Close(context.Background())) })
	return bus
}

// start starts a process with the schedule.
func (r *replicas) start(d adapters.Driver, s patterns.Schedule, opts ...patterns.ScheduleOption) *patterns.Scheduled {
	r.t.Helper()
	scheduled, err := patterns.NewWorkQueue[run](r.connect(d), "reports").Schedule(r.t.Context(), "nightly", s, runAt, opts...)
	must(r.t, err)
	return scheduled
}

// sent takes the messages that were sent so far, and returns how many there are for each time.
// Their ids have to be those of the times.
func (r *replicas) sent() map[string]int {
	r.t.Helper()
	synctest.Wait()
	counts := map[string]int{}
	q := patterns.NewWorkQueue[run](r.connect(nil), "reports")
	for m, err := range q.Waiting(r.t.Context()) {
		must(r.t, err)
		at := m.Value.At.Format(time.RFC3339)
		if m.ID != "nightly@"+at {
			r.t.Errorf("message for %s has the id %q", at, m.ID)
		}
		counts[at]++
		must(r.t, m.Ack(r.t.Context()))
	}
	return counts
}

func hours(start time.Time, from, to int) map[string]int {
	want := map[string]int{}
	for i := from; i <= to; i++ {
		want[start.Add(time.Duration(i)*time.Hour).Format(time.RFC3339)] = 1
	}
	return want
}

func (r *replicas) wantSent(want map[string]int) {
	r.t.Helper()
	if got := r.sent(); fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("sent\n%v, want\n%v", got, want)
	}
}

func (r *replicas) tokens() int {
	r.t.Helper()
	synctest.Wait()
	info, _ := r.broker.Queue("reports.schedule.nightly")
	return info.Ready + info.Unacked
}

// sleepUntil sleeps until so many hours after the start, and then a minute.
func sleepUntil(start time.Time, hours int) {
	time.Sleep(time.Until(start.Add(time.Duration(hours)*time.Hour + time.Minute)))
	synctest.Wait()
}

// A day of five processes that start together, with broken connections: one message an hour.
func TestScheduleIsOnceOverAllReplicas(t *testing.T) {
	inReplicas(t, func(t *testing.T, r *replicas) {
		start := time.Now().UTC()
		for range 5 {
			r.start(nil, patterns.Every(time.Hour))
		}
		for i := range 24 {
			sleepUntil(start, i)
			if i%5 == 2 {
				r.broker.Cut()
			}
		}
		sleepUntil(start, 24)
		r.wantSent(hours(start, 1, 24))
		if n := r.tokens(); n != 1 {
			t.Errorf("%d tokens", n)
		}
	})
}

// mortal is a driver whose process dies before or after one of its operations.
type mortal struct {
	*memory.Client
	mu    sync.Mutex
	left  int // operations
	after bool
}

func (m *mortal) do(op func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left--
	if m.left > 0 {
		return op()
	}
	if m.left == 0 {
		if m.after {
			_ = op()
		}
		_ = m.Close(context.Background())
	}
	return adapters.ErrClosed
}

func (m *mortal) dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left <= 0
}

func (m *mortal) Declare(ctx context.Context, s adapters.Source) error {
	return m.do(func() error { return m.Client.Declare(ctx, s) })
}

func (m *mortal) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	return m.do(func() error { return m.Client.Publish(ctx, p, msgs...) })
}

func (m *mortal) Get(ctx context.Context, s adapters.Source) (d adapters.Delivery, err error) {
	err = m.do(func() (err error) { d, err = m.Client.Get(ctx, s); return err })
	d.Settler = mortalSettler{m, d.Settler}
	return d, err
}

type mortalSettler struct {
	m *mortal
	adapters.Settler
}

func (s mortalSettler) Settle(ctx context.Context, o adapters.Outcome) error {
	return s.m.do(func() error { return s.Settler.Settle(ctx, o) })
}

// A process dies at each step in turn, before and after it. The next one goes on: nothing is left
// out, and only what was under way may have been sent twice.
func TestScheduleSurvivesDeathAtEachStep(t *testing.T) {
	for _, together := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			over := false
			for step := 1; !over; step++ {
				t.Run(fmt.Sprintf("together %t after %t step %d", together, after, step), func(t *testing.T) {
					inReplicas(t, func(t *testing.T, r *replicas) {
						start := time.Now().UTC()
						m := &mortal{Client: r.broker.Connect(), left: step, after: after}
						q := patterns.NewWorkQueue[run](r.connect(m), "reports")
						_, startErr := q.Schedule(t.Context(), "nightly", patterns.Every(time.Hour), runAt)
						if together {
							r.start(nil, patterns.Every(time.Hour))
						}
						time.Sleep(2*time.Hour + time.Minute)
						synctest.Wait()
						if over = !m.dead(); over {
							m.mu.Lock()
							m.left = 1 // it dies now
							m.mu.Unlock()
						}
						first := 1
						if startErr != nil && !together {
							first = 3 // it had not begun
						}
						r.start(nil, patterns.Every(time.Hour), patterns.RunMissed(10))
						sleepUntil(start, 9)
						sent, want := r.sent(), hours(start, first, 9)
						twice := 0
						for _, n := range sent {
							twice += n - 1
						}
						for at := range want {
							if sent[at] == 0 {
								t.Errorf("none for %s: %v", at, sent)
							}
						}
						if twice > 1 {
							t.Errorf("%d were sent twice: %v", twice, sent)
						}
						if n := r.tokens(); n != 1 {
							t.Errorf("%d tokens", n)
						}
					})
				})
				if step > 100 {
					t.Fatal("it never gets to an end")
				}
			}
		}
	}
}

// What was missed while no process had the schedule, by policy.
func TestMissedRuns(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []patterns.ScheduleOption
		want []int // hours; those missed are 3 to 8
	}{
		{"the last one", nil, []int{8}},
		{"the last three", []patterns.ScheduleOption{patterns.RunMissed(3)}, []int{6, 7, 8}},
		{"all", []patterns.ScheduleOption{patterns.RunMissed(1000)}, []int{3, 4, 5, 6, 7, 8}},
		{"none", []patterns.ScheduleOption{patterns.SkipMissed(10 * time.Minute)}, nil},
		{"the last three, but none that is late by two hours", []patterns.ScheduleOption{patterns.RunMissed(3), patterns.SkipMissed(2 * time.Hour)}, []int{7, 8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inReplicas(t, func(t *testing.T, r *replicas) {
				start := time.Now().UTC()
				first := r.start(nil, patterns.Every(time.Hour))
				sleepUntil(start, 2)
				must(t, first.Stop(t.Context()))
				r.wantSent(hours(start, 1, 2))

				sleepUntil(start, 8)
				time.Sleep(29 * time.Minute) // 8:30
				r.start(nil, patterns.Every(time.Hour), c.opts...)
				time.Sleep(10 * time.Minute)
				want := map[string]int{}
				for _, h := range c.want {
					want[start.Add(time.Duration(h)*time.Hour).Format(time.RFC3339)] = 1
				}
				r.wantSent(want)
				if told := strings.Contains(r.logged.String(), fmt.Sprintf("runs=%d", 6-len(c.want))); told != (len(c.want) < 6) {
					t.Errorf("logged %s", r.logged.String())
				}
				sleepUntil(start, 10)
				r.wantSent(hours(start, 9, 10))
			})
		})
	}
}

// A schedule of each second rests for half a year, which is made up for at once.
func TestManyMissedRuns(t *testing.T) {
	inReplicas(t, func(t *testing.T, r *replicas) {
		first := r.start(nil, patterns.Every(time.Second))
		time.Sleep(2500 * time.Millisecond)
		must(t, first.Stop(t.Context()))
		if n := len(r.sent()); n != 2 {
			t.Errorf("%d were sent", n)
		}
		time.Sleep(182 * 24 * time.Hour)
		began := time.Now().UTC()
		r.start(nil, patterns.Every(time.Second), patterns.RunMissed(3))
		time.Sleep(1200 * time.Millisecond) // it may take a second to look, and one more is due by then
		sent := r.sent()
		if len(sent) < 3 || len(sent) > 4 || sent[began.Truncate(time.Second).Format(time.RFC3339)] != 1 {
			t.Errorf("sent %v at %v", sent, began)
		}
	})
}

// Each way in which the queue of the token can be other than it should.
func TestScheduleHealsItsToken(t *testing.T) {
	const queue = "reports.schedule.nightly"
	put := func(r *replicas, payload string) {
		p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: queue}}
		must(r.t, r.connect(nil).Driver().Publish(r.t.Context(), p, message.NewMessage("x", []byte(payload))))
	}
	done := func(start time.Time, hours int) string {
		return fmt.Sprintf(`{"done":%q}`, start.Add(time.Duration(hours)*time.Hour).Format(time.RFC3339))
	}
	for _, c := range []struct {
		name string
		harm func(r *replicas, start time.Time) // after two hours
		log  string
	}{
		{"purged", func(r *replicas, _ time.Time) { _, err := r.broker.Purge(queue); must(r.t, err) }, "is restored"},
		{"deleted", func(r *replicas, _ time.Time) { must(r.t, r.broker.DeleteQueue(queue)) }, "is restored"},
		{"doubled", func(r *replicas, start time.Time) { put(r, done(start, 2)) }, ""},
		{"an old one", func(r *replicas, start time.Time) { put(r, done(start, 1)) }, ""},
		{"many old ones", func(r *replicas, start time.Time) {
			for range 150 {
				put(r, done(start, 1))
			}
		}, ""},
		{"one of who begins", func(r *replicas, start time.Time) {
			put(r, `{"fresh":true,"done":"`+start.Add(150*time.Minute).Format(time.RFC3339)+`"}`)
		}, ""},
		{"garbage", func(r *replicas, _ time.Time) { put(r, "garbage") }, "not its own"},
		{"a clock that is wrong", func(r *replicas, start time.Time) { put(r, done(start, 1000)) }, "the clock of some process"},
		{"an old one only", func(r *replicas, start time.Time) {
			_, err := r.broker.Purge(queue)
			must(r.t, err)
			put(r, done(start, -5))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			inReplicas(t, func(t *testing.T, r *replicas) {
				start := time.Now().UTC()
				for range 2 {
					r.start(nil, patterns.Every(time.Hour))
				}
				sleepUntil(start, 2)
				c.harm(r, start)
				sleepUntil(start, 4)
				time.Sleep(2 * time.Minute)
				r.wantSent(hours(start, 1, 4))
				if n := r.tokens(); n != 1 {
					t.Errorf("%d tokens", n)
				}
				if !strings.Contains(r.logged.String(), c.log) || c.log == "" && r.logged.String() != "" {
					t.Errorf("logged %q", r.logged.String())
				}
			})
		})
	}
}

// A process that is slow holds the token for half a minute while a run is due: the others wait.
func TestScheduleWaitsForTheToken(t *testing.T) {
	inReplicas(t, func(t *testing.T, r *replicas) {
		start := time.Now().UTC()
		for range 3 {
			r.start(nil, patterns.Every(time.Hour))
		}
		time.Sleep(time.Hour - time.Second)
		m, err := patterns.NewWorkQueue[patterns.Raw](r.connect(nil), "reports.schedule.nightly", patterns.NoDeadLetter()).TryGet(t.Context())
		must(t, err)
		time.Sleep(30 * time.Second)
		r.wantSent(map[string]int{})
		if n := r.tokens(); n != 1 {
			t.Errorf("%d tokens", n)
		}
		must(t, m.Requeue(t.Context()))
		time.Sleep(2 * time.Second)
		r.wantSent(hours(start, 1, 1))
	})
}

// A new deployment brings another schedule, which takes over from the moment the last old process
// is gone; and a schedule that is removed and comes back begins anew.
func TestScheduleChangesAndIsRemoved(t *testing.T) {
	inReplicas(t, func(t *testing.T, r *replicas) {
		start := time.Now().UTC()
		old := []*patterns.Scheduled{r.start(nil, patterns.Every(time.Hour)), r.start(nil, patterns.Every(time.Hour))}
		sleepUntil(start, 3)
		next := r.start(nil, patterns.Every(2*time.Hour))
		for _, s := range old {
			must(t, s.Stop(t.Context()))
		}
		sleepUntil(start, 8)
		r.wantSent(map[string]int{
			"2000-01-01T01:00:00Z": 1, "2000-01-01T02:00:00Z": 1, "2000-01-01T03:00:00Z": 1,
			"2000-01-01T04:00:00Z": 1, "2000-01-01T06:00:00Z": 1, "2000-01-01T08:00:00Z": 1,
		})
		must(t, next.Stop(t.Context()))

		q := patterns.NewWorkQueue[run](r.connect(nil), "reports")
		must(t, q.Unschedule(t.Context(), "nightly"))
		must(t, q.Unschedule(t.Context(), "nightly"))
		if n := r.tokens(); n != 0 {
			t.Errorf("%d tokens", n)
		}
		sleepUntil(start, 20)
		r.start(nil, patterns.Every(time.Hour), patterns.RunMissed(100))
		sleepUntil(start, 21)
		r.wantSent(hours(start, 21, 21))
	})
}

// Faults of the broker on the way: a message is sent until it is confirmed, with one id.
func TestScheduleThroughFaults(t *testing.T) {
	inReplicas(t, func(t *testing.T, r *replicas) {
		start := time.Now().UTC()
		for range 3 {
			r.start(nil, patterns.Every(time.Hour))
		}
		r.broker.Inject(memory.Fault{On: memory.OnPublish, Name: "reports", Do: memory.Refuse, Times: 2})
		r.broker.Inject(memory.Fault{On: memory.OnPublish, Name: "reports", Do: memory.DropConfirm, Skip: 1, Times: 1})
		r.broker.Inject(memory.Fault{On: memory.OnPublish, Name: "reports.schedule.nightly", Do: memory.DropConfirm, Skip: 3, Times: 1})
		r.broker.Inject(memory.Fault{On: memory.OnSettle, Do: memory.CutSession, Skip: 4, Times: 1})
		r.broker.Inject(memory.Fault{On: memory.OnSubscribe, Do: memory.Refuse, Skip: 7, Times: 3})
		sleepUntil(start, 5)
		want := hours(start, 1, 5)
		want["2000-01-01T02:00:00Z"] = 2 // its confirm was lost
		r.wantSent(want)
	})
}

// What can never be sent is left out, and what cannot be sent now is tried until it can.
func TestScheduleThatCannotSend(t *testing.T) {
	inReplicas(t, func(t *testing.T, r *replicas) {
		start := time.Now().UTC()
		q := patterns.NewWorkQueue[any](r.connect(nil), "reports")
		must(t, second(q.Schedule(t.Context(), "nightly", patterns.Every(time.Hour), func(at time.Time) any {
			switch at.Hour() {
			case 1:
				panic("boom")
			case 2:
				return func() {} // which JSON has not
			case 3:
				return strings.Repeat("x", 17<<20)
			}
			return runAt(at)
		})))
		sleepUntil(start, 5)
		r.wantSent(hours(start, 4, 5))
		for _, what := range []string{"boom", patterns.ErrCodec.Error(), adapters.ErrTooLarge.Error()} {
			if !strings.Contains(r.logged.String(), what) {
				t.Errorf("not logged: %s", what)
			}
		}
	})
	inReplicas(t, func(t *testing.T, r *replicas) {
		start := time.Now().UTC()
		q := patterns.NewWorkQueue[run](r.connect(nil), "reports", patterns.MaxLength(1))
		must(t, second(q.Schedule(t.Context(), "nightly", patterns.Every(time.Hour), runAt, patterns.RunMissed(10))))
		sleepUntil(start, 3)
		for i := 1; i <= 3; i++ {
			m, err := q.TryGet(t.Context())
			must(t, err)
			if m.Value.At != start.Add(time.Duration(i)*time.Hour) {
				t.Errorf("%d: %v", i, m.Value)
			}
			must(t, m.Ack(t.Context()))
			time.Sleep(2 * time.Minute)
		}
	})
}

// irregular is due at given times, and then never again.
type irregular []time.Time

func (s irregular) Next(t time.Time) time.Time {
	for _, due := range s {
		if due.After(t) {
			return due
		}
	}
	return time.Time{}
}

func TestScheduleEnds(t *testing.T) {
	inReplicas(t, func(t *testing.T, r *replicas) {
		start := time.Now().UTC()
		s := r.start(nil, irregular{start.Add(time.Hour), start.Add(2 * time.Hour)})
		must(t, s.Wait())
		if d := time.Since(start); d.Truncate(time.Second) != 2*time.Hour {
			t.Errorf("it ended after %v", d)
		}
		r.wantSent(hours(start, 1, 2))
	})
	inReplicas(t, func(t *testing.T, r *replicas) { // with its ctx
		ctx, cancel := context.WithCancel(t.Context())
		bus := r.connect(nil)
		s, err := patterns.NewWorkQueue[run](bus, "reports").Schedule(ctx, "nightly", patterns.Every(time.Hour), runAt)
		must(t, err)
		time.Sleep(time.Minute)
		cancel()
		must(t, s.Wait())
		time.Sleep(2 * time.Hour)
		r.wantSent(map[string]int{})

		s, err = patterns.NewWorkQueue[run](bus, "reports").Schedule(t.Context(), "nightly", patterns.Every(time.Hour), runAt)
		must(t, err)
		must(t, bus.Close(t.Context())) // with its bus
		must(t, s.Wait())
	})
	inReplicas(t, func(t *testing.T, r *replicas) { // in the middle of a message
		s := r.start(nil, patterns.Every(time.Hour))
		defer r.broker.Inject(memory.Fault{On: memory.OnPublish, Name: "reports", Delay: 10 * time.Second})()
		time.Sleep(time.Hour + 5*time.Second)
		must(t, s.Stop(t.Context())) // which is finished first
		if d := time.Now().Second(); d != 10 {
			t.Errorf("it stopped after %d s", d)
		}
		r.wantSent(hours(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), 1, 1))

		s = r.start(nil, patterns.Every(time.Hour))
		time.Sleep(time.Hour - 5*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		must(t, s.Stop(ctx))
		if d := time.Now().Second(); d != 6 {
			t.Errorf("it stopped after %d s", d)
		}
	})
	inReplicas(t, func(t *testing.T, r *replicas) { // a schedule that stands still
		s := r.start(nil, standing(time.Now().UTC().Add(time.Hour)))
		wantErr(t, "standing still", s.Wait(), adapters.ErrInvalid)
	})
}

// standing is due at one time, forever.
type standing time.Time

func (s standing) Next(time.Time) time.Time { return time.Time(s) }

// getless is an adapter that cannot Get.
type getless struct{ adapters.Driver }

func (d getless) Features() adapters.Features {
	f := d.Driver.Features()
	f.Adapter, f.Ability = "getless", f.Ability&^(adapters.CanGet|adapters.CanDelete)
	return f
}

type noStore struct{}

func (noStore) Store(context.Context, []patterns.Outgoing) error { return nil }

func TestScheduleRefuses(t *testing.T) {
	bus, broker := newBus(t)
	q := patterns.NewWorkQueue[run](bus, "reports")
	hourly := patterns.Every(time.Hour)
	schedule := func(q *patterns.WorkQueue[run], name string, s patterns.Schedule, opts ...patterns.ScheduleOption) error {
		return second(q.Schedule(bounded(t), name, s, runAt, opts...))
	}
	for what, err := range map[string]error{
		"no name":               schedule(q, "", hourly),
		"a long name":           schedule(q, strings.Repeat("x", 230), hourly),
		"a name with a newline": schedule(q, "a\nb", hourly),
		"nil":                   schedule(q, "n", nil),
		"too often":             schedule(q, "n", patterns.Every(time.Second-1)),
		"never":                 schedule(q, "n", irregular{}),
		"RunMissed(0)":          schedule(q, "n", hourly, patterns.RunMissed(0)),
		"RunMissed(1001)":       schedule(q, "n", hourly, patterns.RunMissed(1001)),
		"RunMissed twice":       schedule(q, "n", hourly, patterns.RunMissed(1), patterns.RunMissed(1)),
		"SkipMissed(0)":         schedule(q, "n", hourly, patterns.SkipMissed(0)),
		"SendWith twice":        schedule(q, "n", hourly, patterns.SendWith(), patterns.SendWith()),
		"SendWith a MessageID":  schedule(q, "n", hourly, patterns.SendWith(patterns.MessageID("x"))),
		"a zero option":         schedule(q, "n", hourly, nil),
		"a store":               second(q.Schedule(patterns.StoreIn(bounded(t), noStore{}), "n", hourly, runAt)),
		"no function":           second(q.Schedule(bounded(t), "n", hourly, nil)),
	} {
		wantErr(t, what, err, adapters.ErrInvalid)
	}
	without := patterns.NewWorkQueue[run](patterns.New(getless{bus.Driver()}), "reports")
	for what, err := range map[string]error{"Schedule": schedule(without, "n", hourly), "Unschedule": without.Unschedule(bounded(t), "n")} {
		refused, ok := errors.AsType[*adapters.UnsupportedError](err)
		if !ok || refused.Adapter != "getless" {
			t.Errorf("%s without the ability: %v", what, err)
		}
	}
	if _, exists := broker.Queue("reports.schedule.n"); exists {
		t.Error("something was declared")
	}
}

func TestScheduledMessagesHaveOptions(t *testing.T) {
	inReplicas(t, func(t *testing.T, r *replicas) {
		r.start(nil, patterns.Every(time.Hour), patterns.SendWith(patterns.Header("by", "clock"), patterns.TTL(90*time.Minute)))
		time.Sleep(3*time.Hour + time.Minute)
		q := patterns.NewWorkQueue[run](r.connect(nil), "reports")
		var left []string
		for m, err := range q.Waiting(t.Context()) {
			must(t, err)
			left = append(left, m.Value.At.Format("15h ")+m.Headers["by"])
		}
		if want := []string{"02h clock", "03h clock"}; !slices.Equal(left, want) {
			t.Errorf("got %q, want %q", left, want)
		}
	})
}

// panics is a schedule that is due once.
type panics struct{ first time.Time }

func (p panics) Next(t time.Time) time.Time {
	if t.Before(p.first) {
		return p.first
	}
	panic("no more")
}

// A Next that panics ends its schedule, and not the process.
func TestScheduleWhoseNextPanics(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[run](bus, "reports")
		s, err := q.Schedule(t.Context(), "nightly", panics{time.Now().Add(time.Minute)}, runAt)
		must(t, err)
		wantErr(t, "Wait", s.Wait(), adapters.ErrInvalid)
	})
}
