package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// spans notes each publish and its outcome as a line, in the order of the publishes.
type spans struct {
	mu    sync.Mutex
	lines []string
}

func (s *spans) hook(_ context.Context, p *patterns.Publishing) func(error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := len(s.lines)
	name := p.To.Name
	if p.Cause == patterns.CauseReply {
		name = "caller"
	}
	line := fmt.Sprintf("%s %s %q", p.Cause, p.To.Kind, name+p.Key)
	for i := range p.Len() {
		line += fmt.Sprintf(" size=%d", p.Size(i))
	}
	if p.Attempt > 0 {
		line += fmt.Sprintf(" attempt=%d", p.Attempt)
	}
	if p.Delay > 0 {
		line += " delay=" + p.Delay.Truncate(time.Second).String()
	}
	s.lines = append(s.lines, line+" not told")
	start := time.Now()
	return func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		outcome := "ok"
		if failed, ok := errors.AsType[*adapters.PublishError](err); ok {
			outcome = fmt.Sprint(len(failed.Failed), " failed")
		} else if err != nil {
			outcome = err.Error()
		}
		s.lines[i] = line + " " + outcome
		if d := time.Since(start); d > 0 {
			s.lines[i] += " after " + d.String()
		}
	}
}

// want compares what was seen and forgets it.
func (s *spans) want(t *testing.T, lines ...string) {
	t.Helper()
	s.check(t, lines...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = nil
}

func (s *spans) check(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range max(len(lines), len(s.lines)) {
		got, want := "nothing", "nothing"
		if i < len(s.lines) {
			got = s.lines[i]
		}
		if i < len(lines) {
			want = lines[i]
		}
		if got != want {
			t.Errorf("publish %d:\n got %s\nwant %s", i, got, want)
		}
	}
}

func TestOnPublishSeesEveryVerb(t *testing.T) {
	var seen spans
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		ctx := t.Context()
		q := patterns.NewWorkQueue[int](bus, "q")
		must(t, q.Send(ctx, 1))
		must(t, q.SendBatch(ctx, []int{1, 22}))
		must(t, q.Send(ctx, 1, patterns.Delay(time.Minute)))
		seen.want(t, `publish queue "q" size=1 ok`, `publish queue "q" size=1 size=2 ok`, `publish queue "q" size=1 delay=1m0s ok`)

		full := patterns.NewWorkQueue[int](bus, "full", patterns.MaxLength(2))
		must(t, full.Send(ctx, 1))
		wantErr(t, "a batch that does not fit", full.SendBatch(ctx, []int{2, 3}), adapters.ErrNacked)
		wantErr(t, "a full queue", full.Send(ctx, 1), adapters.ErrNacked)
		short, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		wantErr(t, "held back", full.Send(short, 1, patterns.WaitForRoom()), context.DeadlineExceeded)
		refused := adapters.ErrNacked.Error()
		seen.want(t, `publish queue "full" size=1 ok`, `publish queue "full" size=1 size=1 1 failed`,
			`publish queue "full" size=1 `+refused,
			`publish queue "full" size=1 `+context.DeadlineExceeded.Error()+" while held back: "+refused+" after 1s")

		must(t, patterns.NewPubSub[int](bus, "p").Publish(ctx, 1))
		must(t, patterns.NewRouted[int](bus, "r").PublishBatch(ctx, "key", []int{1}))
		topic := patterns.NewTopic[int](bus, "t")
		wantErr(t, "to nobody", topic.Publish(ctx, "a.b", 1, patterns.Mandatory()), adapters.ErrUnroutable)
		seen.want(t, `publish fanout "p" size=1 ok`, `publish direct "rkey" size=1 ok`,
			`publish topic "ta.b" size=1 `+adapters.ErrUnroutable.Error())

		broker.Inject(memory.Fault{On: memory.OnPublish, Do: memory.DropConfirm, Times: 1})
		wantErr(t, "unconfirmed", q.Send(ctx, 1), adapters.ErrUnconfirmed)
		seen.want(t, `publish queue "q" size=1 `+adapters.ErrUnconfirmed.Error())
	}, patterns.OnPublish(seen.hook))
}

func TestOnPublishSeesCallsAndReplies(t *testing.T) {
	var seen spans
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		f := patterns.NewRPC[int, int](bus, "f")
		_, err := f.Call(t.Context(), 1)
		wantErr(t, "without a server", err, patterns.ErrNoServer)
		seen.want(t, `call queue "f" size=1 `+patterns.ErrNoServer.Error())

		_, err = f.Serve(t.Context(), func(_ context.Context, n int) (int, error) {
			time.Sleep(time.Second)
			if n == 2 {
				return 0, errKitchen
			}
			return 1000, nil
		})
		must(t, err)
		must(t, second(f.Call(t.Context(), 1)))
		seen.want(t, `call queue "f" size=1 ok after 1s`, `reply reply "caller" size=4 ok`)
		if _, err = f.Call(t.Context(), 2); err == nil {
			t.Error("no error")
		}
		seen.want(t, `call queue "f" size=1 remote error (internal) after 1s`, `reply reply "caller" size=0 ok`)
	}, patterns.OnPublish(seen.hook))
}

func TestOnPublishSeesWhatTheLibrarySends(t *testing.T) {
	var seen spans
	var fromHandler []string
	note := func(ctx context.Context, p *patterns.Publishing) func(error) {
		d, ok := patterns.DeliveryFrom(ctx)
		fromHandler = append(fromHandler, fmt.Sprint(p.Cause, " ", ok, " ", d.Attempt))
		return nil
	}
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		must(t, q.Declare(t.Context()))
		must(t, q.Dead().Declare(t.Context()))
		publishRaw(t, bus, adapters.Endpoint{Name: "q"}, adapters.Properties{}, "7")
		sub, err := q.Work(t.Context(), func(context.Context, int) error { return patterns.RetryAfter(time.Second, errKitchen) },
			patterns.Retry(patterns.RetryPolicy{Attempts: 2}))
		must(t, err)
		time.Sleep(time.Minute)
		must(t, sub.Stop(t.Context()))
		must(t, second(q.Dead().Redrive(t.Context())))
		seen.want(t, `retry queue "q" size=1 attempt=2 delay=1s ok`, `dead-letter queue "q.dead" size=1 ok`, `redrive queue "q" size=1 ok`)
		if got := strings.Join(fromHandler, ", "); got != "retry true 1, dead-letter true 2, redrive false 0" {
			t.Error(got)
		}
	}, patterns.OnPublish(seen.hook, note))
}

func TestOnPublishTellsOfAsyncPublishesWhenTheConfirmComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen spans
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(&lateDriver{Client: broker.Connect()}, patterns.OnPublish(seen.hook))
		q := patterns.NewWorkQueue[int](bus, "q")
		must(t, second(q.SendAsync(t.Context(), 1)))
		must(t, second(q.SendAsync(t.Context(), 22)))
		seen.check(t, `publish queue "q" size=1 not told`, `publish queue "q" size=2 not told`)
		time.Sleep(time.Minute)
		seen.check(t, `publish queue "q" size=1 ok after 1m0s`, `publish queue "q" size=2 ok after 1m0s`)
		must(t, bus.Close(context.Background()))
	})
}

// lateDriver confirms a minute late what is published asynchronously.
type lateDriver struct{ *memory.Client }

func (d *lateDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	return d.Client.PublishAsync(ctx, p, m, func(err error) { time.AfterFunc(time.Minute, func() { done(err) }) })
}

// The outcome of an asynchronous publish is known while a hook takes its time over it. Closing the
// bus waits for that hook, for a second, and what it holds up is bounded.
func TestOnPublishThatTakesItsTime(t *testing.T) {
	for _, takes := range []time.Duration{time.Second / 2, time.Hour} {
		t.Run(takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var begun, told atomic.Int64
				hook := func(context.Context, *patterns.Publishing) func(error) {
					return func(err error) {
						if err == nil {
							begun.Add(1)
							time.Sleep(takes)
							told.Add(1)
						}
					}
				}
				broker := memory.New()
				defer broker.Close()
				bus := patterns.New(broker.Connect(), patterns.OnPublish(hook), patterns.MaxInFlight(2))
				q := patterns.NewWorkQueue[int](bus, "q")
				for range 2 {
					r, err := q.SendAsync(t.Context(), 1)
					must(t, err)
					must(t, r.Wait(t.Context()))
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				wantErr(t, "one more than may be in flight", second(q.SendAsync(ctx, 1)), context.DeadlineExceeded)
				start := time.Now()
				must(t, bus.Close(context.Background()))
				if d := time.Since(start); d > time.Second || d < takes-time.Millisecond && d < time.Second {
					t.Errorf("closing took %v", d)
				}
				if want := takes < time.Second; begun.Load() != 2 || (told.Load() == 2) != want {
					t.Errorf("%d of %d hooks were done: want all is %v", told.Load(), begun.Load(), want)
				}
				time.Sleep(takes)
			})
		})
	}
}

func TestOnPublishHeaders(t *testing.T) {
	set := func(key, value string) patterns.PublishHook {
		return func(_ context.Context, p *patterns.Publishing) func(error) {
			for i := range p.Len() {
				p.SetHeader(i, key, value)
			}
			return nil
		}
	}
	reads := func(_ context.Context, p *patterns.Publishing) func(error) {
		for i := range p.Len() {
			p.SetHeader(i, "was", fmt.Sprintf("%d %t %s %d", i, p.HasHeaders(i), p.Header(i, "given"), len(p.Headers(i))))
			p.Headers(i)["given"] = "a copy"
		}
		return nil
	}
	long := strings.Repeat("x", adapters.MaxNameBytes+1)
	for name, c := range map[string]struct {
		hook patterns.PublishHook
		want string
	}{
		"add":       {set("trace", "7"), "map[given:1 trace:7] map[given:1 trace:7]"},
		"change":    {set("given", "2"), "map[given:2] map[given:2]"},
		"one of":    {func(_ context.Context, p *patterns.Publishing) func(error) { p.SetHeader(1, "trace", "7"); return nil }, "map[given:1] map[given:1 trace:7]"},
		"read":      {reads, "map[given:1 was:0 true 1 1] map[given:1 was:1 true 1 1]"},
		"reserved":  {set("motif-reason", "x"), "map[given:1] map[given:1]"},
		"too long":  {set(long, "x"), "map[given:1] map[given:1]"},
		"too large": {set("x", strings.Repeat("x", adapters.MaxMetadataBytes)), "map[given:1] map[given:1]"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[int](bus, "q")
				must(t, q.SendBatch(t.Context(), []int{1, 2}, patterns.Header("given", "1")))
				if got := fmt.Sprint(take(t, q).Headers, take(t, q).Headers); got != c.want {
					t.Errorf("headers: got %s, want %s", got, c.want)
				}
			}, patterns.OnPublish(c.hook))
		})
	}
}

// What the library put into a dead letter no hook can change.
func TestOnPublishKeepsTheReason(t *testing.T) {
	spoil := func(_ context.Context, p *patterns.Publishing) func(error) {
		p.SetHeader(0, patterns.HeaderReason, "none")
		return nil
	}
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		must(t, q.Send(t.Context(), 1))
		taken, err := q.TryGet(t.Context())
		must(t, err)
		must(t, taken.Reject(t.Context(), errKitchen))
		letter := take(t, q.Dead())
		if letter.Headers[patterns.HeaderReason] != errKitchen.Error() || letter.Headers[patterns.HeaderQueue] != "q" {
			t.Errorf("headers: %v", letter.Headers)
		}
	}, patterns.OnPublish(spoil))
}

// A hook that panics, or ends its goroutine where the library publishes, before or after, harms
// neither the publish nor the other hooks.
func TestOnPublishThatDoesNotReturn(t *testing.T) {
	for _, c := range []struct {
		name   string
		fail   func()
		causes []patterns.PublishCause
	}{
		{"panic", func() { panic("hook") }, []patterns.PublishCause{
			patterns.CausePublish, patterns.CauseCall, patterns.CauseReply, patterns.CauseRetry, patterns.CauseDeadLetter, patterns.CauseRedrive,
		}},
		{"Goexit", runtime.Goexit, []patterns.PublishCause{
			patterns.CauseReply, patterns.CauseRetry, patterns.CauseDeadLetter, patterns.CauseRedrive,
		}},
	} {
		fails := map[patterns.PublishCause]bool{}
		for _, cause := range c.causes {
			fails[cause] = true
		}
		before := func(_ context.Context, p *patterns.Publishing) func(error) {
			p.SetHeader(0, "before", "yes")
			if fails[p.Cause] {
				c.fail()
			}
			return nil
		}
		after := func(_ context.Context, p *patterns.Publishing) func(error) {
			fail := fails[p.Cause]
			return func(error) {
				if fail {
					c.fail()
				}
			}
		}
		t.Run(c.name, func(t *testing.T) {
			var first, last spans
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				ctx := t.Context()
				q := patterns.NewWorkQueue[int](bus, "q")
				must(t, q.Send(ctx, 1))
				must(t, second(q.SendAsync(ctx, 1)))
				f := patterns.NewRPC[int, int](bus, "f")
				must(t, second(f.Serve(ctx, func(_ context.Context, n int) (int, error) { return n, nil })))
				for range 2 {
					must(t, second(f.Call(ctx, 1)))
				}
				sub, err := q.Work(ctx, func(context.Context, int) error { return patterns.RetryAfter(time.Second, errKitchen) },
					patterns.Retry(patterns.RetryPolicy{Attempts: 2}))
				must(t, err)
				time.Sleep(time.Minute)
				must(t, sub.Stop(ctx))
				n, err := q.Dead().Redrive(ctx)
				must(t, err)
				if n != 2 {
					t.Errorf("%d dead letters", n)
				}
				if got := take(t, q).Headers["before"]; got != "yes" {
					t.Errorf("header %q", got)
				}
				lines := []string{
					`publish queue "q" size=1 ok`, `publish queue "q" size=1 ok`,
					`call queue "f" size=1 ok`, `reply reply "caller" size=1 ok`, `call queue "f" size=1 ok`, `reply reply "caller" size=1 ok`,
					`retry queue "q" size=1 attempt=2 delay=1s ok`, `retry queue "q" size=1 attempt=2 delay=1s ok`,
					`dead-letter queue "q.dead" size=1 ok`, `dead-letter queue "q.dead" size=1 ok`,
					`redrive queue "q" size=1 ok`, `redrive queue "q" size=1 ok`,
				}
				first.check(t, lines...)
				last.check(t, lines...)
			}, patterns.OnPublish(first.hook, before), patterns.OnPublish(after, last.hook))
		})
	}
}

// A hook that publishes with the ctx it was given is not called for that again.
func TestOnPublishHookThatPublishes(t *testing.T) {
	for name, send := range map[string]func(context.Context, *patterns.WorkQueue[int]) error{
		"blocking":     func(ctx context.Context, q *patterns.WorkQueue[int]) error { return q.Send(ctx, 1) },
		"asynchronous": func(ctx context.Context, q *patterns.WorkQueue[int]) error { return second(q.SendAsync(ctx, 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			var bus *patterns.Bus
			hook := func(ctx context.Context, p *patterns.Publishing) func(error) {
				if calls.Add(1) > 9 {
					return nil // enough to see that it is called without end
				}
				audit, id := patterns.NewWorkQueue[string](bus, "audit"), p.ID(0)
				must(t, audit.Send(ctx, "before "+id))
				return func(error) { must(t, audit.Send(context.WithoutCancel(ctx), "after "+id)) }
			}
			synctest.Test(t, func(t *testing.T) {
				broker := memory.New()
				defer broker.Close()
				bus = patterns.New(broker.Connect(), patterns.OnPublish(hook))
				must(t, send(t.Context(), patterns.NewWorkQueue[int](bus, "q")))
				synctest.Wait()
				if n := calls.Load(); n != 1 {
					t.Errorf("called %d times", n)
				}
				info, err := broker.Connect().Inspect(t.Context(), "audit")
				must(t, err)
				if info.Ready != 2 {
					t.Errorf("%d messages of the hook", info.Ready)
				}
				must(t, bus.Close(context.Background()))
			})
		})
	}
}

func TestOnPublishRefusesNil(t *testing.T) {
	bus := patterns.New(memory.New().Connect(), patterns.BusOptions(patterns.OnPublish(nil)))
	wantErr(t, "nil hook", patterns.NewWorkQueue[int](bus, "q").Send(t.Context(), 1), adapters.ErrInvalid)
	_ = bus.Close(t.Context())
}
