package patterns_test

import (
	"context"
	"errors"
	"fmt"
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

// traces notes each publish that a tracer sees, and its outcome.
type traces struct {
	mu    sync.Mutex
	lines []string
}

func (s *traces) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *traces) tracer(_ context.Context, o *patterns.Outgoing) func(error) {
	name := o.To.Name
	if o.Cause == patterns.CauseReply {
		name = "caller"
	}
	line := fmt.Sprintf("%s %s of %d", o.Cause, name+o.Key, o.Len())
	if o.Attempt > 0 {
		line += fmt.Sprintf(" attempt %d in %v", o.Attempt, o.Delay.Truncate(time.Second))
	}
	return func(err error) {
		if failed, ok := errors.AsType[*adapters.PublishError](err); ok {
			line += fmt.Sprintf(": %d failed", len(failed.Failed))
		} else if err != nil {
			line += ": " + err.Error()
		}
		s.add(line)
	}
}

func TestTracePublishSeesEveryPublish(t *testing.T) {
	var seen traces
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		ctx := t.Context()
		q := patterns.NewWorkQueue[int](bus, "q", patterns.MaxLength(2))
		must(t, q.Send(ctx, 1))
		wantErr(t, "a full queue", q.SendBatch(ctx, []int{2, 3}), adapters.ErrNacked)
		_, err := patterns.NewRouted[int](bus, "r").PublishAsync(ctx, "key", 1)
		must(t, err)
		synctest.Wait()
		f := patterns.NewRPC[int, int](bus, "f")
		_, err = f.Serve(ctx, func(context.Context, int) (int, error) { return 0, errKitchen })
		must(t, err)
		if _, err = f.Call(ctx, 1); err == nil {
			t.Error("no error")
		}
		synctest.Wait()
		_, err = q.Work(ctx, func(_ context.Context, n int) error {
			if n == 1 {
				return errKitchen
			}
			return nil
		}, patterns.Retry(patterns.RetryPolicy{Attempts: 2}))
		must(t, err)
		time.Sleep(time.Minute)
		must(t, second(q.Dead().Redrive(ctx)))
		time.Sleep(time.Minute)
		want := []string{
			"publish q of 1", "publish q of 2: 1 failed", "publish rkey of 1",
			"reply caller of 1", "call f of 1: remote error (internal)",
			"retry q of 1 attempt 2 in 1s", "dead-letter q.dead of 1", "redrive q of 1",
			"retry q of 1 attempt 2 in 1s", "dead-letter q.dead of 1",
		}
		slices.Sort(want)
		seen.mu.Lock()
		defer seen.mu.Unlock()
		if slices.Sort(seen.lines); !slices.Equal(seen.lines, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(seen.lines, "\n"), strings.Join(want, "\n"))
		}
	}, patterns.TracePublish(seen.tracer))
}

// Headers that a tracer sets travel; those it may not set, and more than fit, do not.
func TestTracePublishSetsHeaders(t *testing.T) {
	huge := false
	tracer := func(_ context.Context, o *patterns.Outgoing) func(error) {
		for i := range o.Len() {
			o.SetHeader(i, "trace", fmt.Sprint(i, o.Header(i, "mine"), o.HasHeaders(i)))
			o.SetHeader(i, "motif-reason", "none")
			if huge {
				o.SetHeader(i, "huge", strings.Repeat("x", adapters.MaxMetadataBytes))
			}
		}
		return nil
	}
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		ctx := t.Context()
		q := patterns.NewWorkQueue[int](bus, "q")
		opt := patterns.Header("mine", "!")
		must(t, q.SendBatch(ctx, []int{1, 2}, opt))
		huge = true
		must(t, q.Send(ctx, 3, opt))
		for _, want := range []string{"0!true", "1!true", ""} {
			m, err := q.TryGet(ctx)
			must(t, err)
			if m.Headers["trace"] != want || m.Headers["mine"] != "!" || m.Headers["motif-reason"] != "" || m.Headers["huge"] != "" {
				t.Errorf("%d came with %d headers, trace %q, want %q", m.Value, len(m.Headers), m.Headers["trace"], want)
			}
			must(t, m.Ack(ctx))
		}
	}, patterns.TracePublish(tracer))
}

// A tracer that panics, before or after, harms neither the publish nor the other tracers; hooks are
// called as well.
func TestTracePublishBesidesOthers(t *testing.T) {
	var seen traces
	panics := func(context.Context, *patterns.Outgoing) func(error) { panic("before") }
	panicsLater := func(context.Context, *patterns.Outgoing) func(error) { return func(error) { panic("after") } }
	hook := func(_ context.Context, p *patterns.Publishing) func(error) {
		seen.add("hook sees " + p.Headers["traced"])
		return nil
	}
	sets := func(_ context.Context, o *patterns.Outgoing) func(error) {
		o.SetHeader(0, "traced", "yes")
		return nil
	}
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		must(t, patterns.NewWorkQueue[int](bus, "q").Send(t.Context(), 1))
		if want := []string{"hook sees yes", "publish q of 1"}; !slices.Equal(seen.lines, want) {
			t.Errorf("%q", seen.lines)
		}
	}, patterns.TracePublish(panics, seen.tracer, sets), patterns.TracePublish(panicsLater), patterns.OnPublish(hook))
}

func TestTracePublishOfNil(t *testing.T) {
	bus := patterns.New(memory.New().Connect(), patterns.BusOptions(patterns.TracePublish(nil), patterns.OnNew(nil)))
	wantErr(t, "nil tracer", patterns.NewWorkQueue[int](bus, "q").Send(t.Context(), 1), adapters.ErrInvalid)
}

func TestOnNew(t *testing.T) {
	var made *patterns.Bus
	closed := 0
	option := patterns.OnNew(func(b *patterns.Bus) func() {
		made = b
		return func() { closed++ }
	})
	bus := patterns.New(memory.New().Connect(), option, patterns.OnNew(func(*patterns.Bus) func() { return nil }))
	if made != bus || closed != 0 {
		t.Errorf("made %p, is %p, closed %d times", made, bus, closed)
	}
	must(t, bus.Close(t.Context()))
	must(t, bus.Close(t.Context()))
	if closed != 1 {
		t.Errorf("closed %d times", closed)
	}
	made = nil
	patterns.New(nil, option)
	if made != nil {
		t.Error("called with a bus that cannot be used")
	}
}

func TestOriginFrom(t *testing.T) {
	if _, ok := patterns.OriginFrom(t.Context()); ok {
		t.Error("there is one outside handlers")
	}
	var got []string
	note := func(next message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			o, _ := patterns.OriginFrom(m.Context())
			d, _ := patterns.DeliveryFrom(m.Context())
			if o != (patterns.Origin{Source: d.Source, Group: d.Group, Queue: d.Queue, Call: d.Call}) {
				t.Errorf("%+v of %+v", o, d)
			}
			got = append(got, fmt.Sprint(o.Source.Name, " ", o.Group, " ", o.Queue, " ", o.Call))
			return next(m)
		}
	}
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		news := patterns.NewPubSub[int](bus, "news")
		must(t, second(news.Subscribe(t.Context(), func(context.Context, int) error { return nil }, patterns.Group("paper"))))
		must(t, news.Publish(t.Context(), 1))
		synctest.Wait()
		f := patterns.NewRPC[int, int](bus, "f")
		must(t, second(f.Serve(t.Context(), func(context.Context, int) (int, error) { return 0, nil })))
		must(t, second(f.Call(t.Context(), 1)))
		if want := []string{"news paper news:paper false", "f  f true"}; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	}, patterns.WithMiddleware(note))
}
