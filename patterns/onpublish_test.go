package patterns_test

import (
	"context"
	"fmt"
	"runtime"
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

// spans notes each publish and its outcome as a line, in the order of the publishes.
type spans struct {
	mu    sync.Mutex
	lines []string
}

func (s *spans) hook(ctx context.Context, p *patterns.Publishing) func(error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := len(s.lines)
	name := p.To.Name
	if p.Cause == patterns.CauseReply {
		name = "caller"
	}
	s.lines = append(s.lines, "")
	line := fmt.Sprintf("%s %s %q batch=%d size=%d", p.Cause, p.To.Kind, name+p.Key, p.Batch, p.Size)
	if p.Attempt > 0 {
		line += fmt.Sprintf(" attempt=%d", p.Attempt)
	}
	s.lines[i] = line + " not told"
	start := time.Now()
	return func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		outcome := "ok"
		if err != nil {
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
		seen.want(t, `publish queue "q" batch=1 size=1 ok`,
			`publish queue "q" batch=2 size=1 ok`, `publish queue "q" batch=2 size=2 ok`,
			`publish queue "q" batch=1 size=1 ok`)

		full := patterns.NewWorkQueue[int](bus, "full", patterns.MaxLength(1))
		must(t, full.Send(ctx, 1))
		wantErr(t, "a full queue", full.Send(ctx, 1), adapters.ErrNacked)
		wantErr(t, "a batch to it", full.SendBatch(ctx, []int{2, 3}), adapters.ErrNacked)
		short, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		wantErr(t, "held back", full.Send(short, 1, patterns.WaitForRoom()), context.DeadlineExceeded)
		refused := adapters.ErrNacked.Error()
		seen.want(t, `publish queue "full" batch=1 size=1 ok`, `publish queue "full" batch=1 size=1 `+refused,
			`publish queue "full" batch=2 size=1 `+refused, `publish queue "full" batch=2 size=1 `+refused,
			`publish queue "full" batch=1 size=1 `+context.DeadlineExceeded.Error()+" while held back: "+refused+" after 1s")

		must(t, patterns.NewPubSub[int](bus, "p").Publish(ctx, 1))
		must(t, patterns.NewRouted[int](bus, "r").PublishBatch(ctx, "key", []int{1}))
		topic := patterns.NewTopic[int](bus, "t")
		wantErr(t, "to nobody", topic.Publish(ctx, "a.b", 1, patterns.Mandatory()), adapters.ErrUnroutable)
		seen.want(t, `publish fanout "p" batch=1 size=1 ok`, `publish direct "rkey" batch=1 size=1 ok`,
			`publish topic "ta.b" batch=1 size=1 `+adapters.ErrUnroutable.Error())

		broker.Inject(memory.Fault{On: memory.OnPublish, Do: memory.DropConfirm, Times: 1})
		wantErr(t, "unconfirmed", q.Send(ctx, 1), adapters.ErrUnconfirmed)
		seen.want(t, `publish queue "q" batch=1 size=1 `+adapters.ErrUnconfirmed.Error())
	}, patterns.OnPublish(seen.hook))
}

func TestOnPublishSeesCallsAndReplies(t *testing.T) {
	var seen spans
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		f := patterns.NewRPC[int, int](bus, "f")
		_, err := f.Call(t.Context(), 1)
		wantErr(t, "without a server", err, patterns.ErrNoServer)
		seen.want(t, `call queue "f" batch=1 size=1 `+patterns.ErrNoServer.Error())

		_, err = f.Serve(t.Context(), func(_ context.Context, n int) (int, error) {
			time.Sleep(time.Second)
			if n == 2 {
				return 0, errKitchen
			}
			return 1000, nil
		})
		must(t, err)
		must(t, second(f.Call(t.Context(), 1)))
		seen.want(t, `call queue "f" batch=1 size=1 ok after 1s`, `reply reply "caller" batch=1 size=4 ok`)
		if _, err = f.Call(t.Context(), 2); err == nil {
			t.Error("no error")
		}
		seen.want(t, `call queue "f" batch=1 size=1 remote error (internal) after 1s`, `reply reply "caller" batch=1 size=0 ok`)
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
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
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
		seen.want(t, `retry queue "q" batch=1 size=1 attempt=2 ok`, `dead-letter queue "q.dead" batch=1 size=1 ok`,
			`redrive queue "q" batch=1 size=1 ok`)
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
		seen.check(t, `publish queue "q" batch=1 size=1 not told`, `publish queue "q" batch=1 size=2 not told`)
		time.Sleep(time.Minute)
		seen.check(t, `publish queue "q" batch=1 size=1 ok after 1m0s`, `publish queue "q" batch=1 size=2 ok after 1m0s`)
		must(t, bus.Close(context.Background()))
	})
}

// lateDriver confirms a minute late what is published asynchronously.
type lateDriver struct{ *memory.Client }

func (d *lateDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	return d.Client.PublishAsync(ctx, p, m, func(err error) { time.AfterFunc(time.Minute, func() { done(err) }) })
}

func TestOnPublishHeaders(t *testing.T) {
	long := strings.Repeat("x", adapters.MaxNameBytes+1)
	for name, c := range map[string]struct {
		hook patterns.PublishHook
		want string
	}{
		"add":    {func(_ context.Context, p *patterns.Publishing) func(error) { p.Headers["trace"] = "7"; return nil }, "map[given:1 trace:7]"},
		"change": {func(_ context.Context, p *patterns.Publishing) func(error) { p.Headers["given"] += "!"; return nil }, "map[given:1!]"},
		"remove": {func(_ context.Context, p *patterns.Publishing) func(error) { delete(p.Headers, "given"); return nil }, "map[]"},
		"replace": {func(_ context.Context, p *patterns.Publishing) func(error) {
			p.Headers = map[string]string{"a": "b"}
			return nil
		}, "map[a:b]"},
		"nil": {func(_ context.Context, p *patterns.Publishing) func(error) { p.Headers = nil; return nil }, "map[]"},
		"reserved": {func(_ context.Context, p *patterns.Publishing) func(error) {
			p.Headers["motif-reason"] = "x"
			return nil
		}, "map[given:1]"},
		"too long":       {func(_ context.Context, p *patterns.Publishing) func(error) { p.Headers[long] = "x"; return nil }, "map[given:1]"},
		"panic":          {func(context.Context, *patterns.Publishing) func(error) { panic("hook") }, "map[given:1]"},
		"panic at end":   {func(context.Context, *patterns.Publishing) func(error) { return func(error) { panic("hook") } }, "map[given:1]"},
		"Goexit":         {func(context.Context, *patterns.Publishing) func(error) { runtime.Goexit(); return nil }, "map[given:1]"},
		"Goexit at end":  {func(context.Context, *patterns.Publishing) func(error) { return func(error) { runtime.Goexit() } }, "map[given:1]"},
		"returns no end": {func(context.Context, *patterns.Publishing) func(error) { return nil }, "map[given:1]"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[int](bus, "q")
				for range 2 {
					must(t, q.Send(t.Context(), 1, patterns.Header("given", "1")))
					if got := fmt.Sprint(take(t, q).Headers); got != c.want {
						t.Errorf("headers: got %s, want %s", got, c.want)
					}
				}
			}, patterns.OnPublish(c.hook))
		})
	}
}

// What the library put into a dead letter no hook can change or take away.
func TestOnPublishKeepsTheReason(t *testing.T) {
	spoil := func(_ context.Context, p *patterns.Publishing) func(error) {
		p.Headers[patterns.HeaderReason] = "none"
		delete(p.Headers, patterns.HeaderQueue)
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

// A hook that does not return costs a publish a second, and nothing else.
func TestOnPublishHookThatBlocks(t *testing.T) {
	for _, end := range []bool{false, true} {
		t.Run(fmt.Sprint("at the end ", end), func(t *testing.T) {
			release := make(chan struct{})
			hook := func(context.Context, *patterns.Publishing) func(error) {
				if end {
					return func(error) { <-release }
				}
				<-release
				return nil
			}
			synctest.Test(t, func(t *testing.T) {
				broker := memory.New()
				defer broker.Close()
				release = make(chan struct{}) // of the bubble
				bus := patterns.New(broker.Connect(), patterns.OnPublish(hook), patterns.MaxInFlight(8), patterns.MaxCalls(8))
				q := patterns.NewWorkQueue[int](bus, "q")
				tries := 0
				_, err := q.Work(context.Background(), func(ctx context.Context, _ int) error {
					tries++
					if d, _ := patterns.DeliveryFrom(ctx); d.Attempt == 1 {
						return patterns.RetryAfter(0, errKitchen)
					}
					return nil
				})
				must(t, err)
				const sends = 20 // more than there may be hooks that do not return
				for n := range sends {
					start := time.Now()
					must(t, q.Send(context.Background(), n))
					if d := time.Since(start); d > 2*time.Second {
						t.Errorf("send %d took %v", n, d)
					}
				}
				r, err := q.SendAsync(context.Background(), 1)
				must(t, err)
				must(t, r.Wait(context.Background()))
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				if tries != 2*(sends+1) {
					t.Errorf("%d tries of %d messages", tries, sends+1)
				}
				must(t, bus.Close(context.Background()))
				close(release)
			})
		})
	}
}

func TestOnPublishRefusesNil(t *testing.T) {
	bus := patterns.New(memory.New().Connect(), patterns.OnPublish(nil))
	wantErr(t, "nil hook", patterns.NewWorkQueue[int](bus, "q").Send(t.Context(), 1), adapters.ErrInvalid)
	_ = bus.Close(t.Context())
}
