package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// Each result of a handler that is neither success nor failure, returned by itself or made of its
// error by Classify: what becomes of the message.
func TestSkipRequeueAndClassify(t *testing.T) {
	type outcome struct {
		dead  int
		stats patterns.Stats
	}
	is := func(f func(error) error) func(error) error {
		return func(err error) error {
			if !errors.Is(err, errKitchen) {
				return fmt.Errorf("Classify was given %w", err)
			}
			return f(err)
		}
	}
	none := func(error) error { return nil }
	twice := patterns.Retry(patterns.RetryPolicy{Attempts: 2})
	rows := []struct {
		name   string
		result error
		opts   []patterns.WorkOption
		want   outcome
	}{
		{"Skip", patterns.Skip(errKitchen), nil, outcome{0, patterns.Stats{Skipped: 1}}},
		{"Skip, wrapped", fmt.Errorf("no: %w", patterns.Skip(nil)), nil, outcome{0, patterns.Stats{Skipped: 1}}},
		{"Skip, on receive", patterns.Skip(errKitchen), []patterns.WorkOption{patterns.AckOnReceive()}, outcome{0, patterns.Stats{Skipped: 1}}},
		{"classified as Skip", errKitchen, []patterns.WorkOption{patterns.Classify(is(patterns.Skip))}, outcome{0, patterns.Stats{Skipped: 1}}},
		{"classified as Reject", errKitchen, []patterns.WorkOption{patterns.Classify(is(patterns.Reject))}, outcome{1, patterns.Stats{DeadLettered: 1}}},
		{"classified as success", errKitchen, []patterns.WorkOption{patterns.Classify(is(none))}, outcome{}},
		{"classified as it is", errKitchen, []patterns.WorkOption{patterns.Classify(is(func(err error) error { return err })), twice}, outcome{1, patterns.Stats{Retried: 1, DeadLettered: 1}}},
		{"Reject, classified as a failure", patterns.Reject(errKitchen), []patterns.WorkOption{patterns.Classify(is(func(error) error { return errKitchen })), twice}, outcome{1, patterns.Stats{Retried: 1, DeadLettered: 1}}},
		{"Classify panics", errKitchen, []patterns.WorkOption{patterns.Classify(func(error) error { panic("boom") }), twice}, outcome{1, patterns.Stats{Retried: 1, DeadLettered: 1}}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				q := patterns.NewWorkQueue[order](bus, "orders")
				must(t, second(q.Work(t.Context(), func(context.Context, order) error { return r.result }, r.opts...)))
				must(t, q.Send(t.Context(), order{}))
				time.Sleep(time.Hour)
				synctest.Wait()
				dead, _ := broker.Queue("orders.dead")
				queue, _ := broker.Queue("orders")
				if got := (outcome{dead.Ready, bus.Stats()}); got != r.want || queue.Ready+queue.Unacked > 0 {
					t.Errorf("got %+v, want %+v; queue %+v", got, r.want, queue)
				}
			})
		})
	}
}

// Requeue puts a message back before those behind it, as often as the handler wants, uncounted and
// no dead letter of any kind, but less and less often.
func TestRequeueIsUncountedAndDoesNotSpin(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.SendBatch(t.Context(), []order{{ID: 1}, {ID: 2}}))
		start, tries, last := time.Now(), 0, 0
		must(t, second(q.Work(t.Context(), func(ctx context.Context, o order) error {
			d, _ := patterns.DeliveryFrom(ctx)
			if d.Attempt != 1 || o.ID < last {
				t.Errorf("order %d after %d, attempt %d", o.ID, last, d.Attempt)
			}
			last = o.ID
			if o.ID == 1 && time.Since(start) < time.Hour {
				tries++
				return patterns.Requeue(errKitchen)
			}
			return nil
		}, patterns.NoRetry(), patterns.LossLimit(2))))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if tries < 60 || tries > 70 {
			t.Errorf("%d tries in an hour", tries)
		}
		if s := bus.Stats(); last != 2 || s != (patterns.Stats{Requeued: uint64(tries)}) {
			t.Errorf("last %d, %+v", last, s)
		}
	})
}

// A shutdown is not classified: what it interrupts goes back.
func TestShutdownIsNotClassified(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		sub, err := q.Work(t.Context(), func(ctx context.Context, _ order) error { <-ctx.Done(); return ctx.Err() },
			patterns.Classify(patterns.Reject), patterns.DrainTimeout(time.Second))
		must(t, err)
		must(t, q.Send(t.Context(), order{}))
		synctest.Wait()
		must(t, sub.Stop(t.Context()))
		if info, _ := broker.Queue("orders"); info.Ready != 1 {
			t.Errorf("%+v", info)
		}
	})
}
