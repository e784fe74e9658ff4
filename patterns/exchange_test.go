package patterns_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func TestPubSubCopiesToEveryGroupAndPrivateSubscriber(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		ps := patterns.NewPubSub[int](bus, "placed")
		must(t, ps.Declare(t.Context(), patterns.Group("ledger"))) // nobody is there yet
		got := map[string]*journal[int]{}
		join := func(name string, opts ...patterns.SubscribeOption) {
			l := newJournal[int]()
			got[name] = l
			_, err := ps.Subscribe(t.Context(), func(_ context.Context, n int) error { l.add(n); return nil }, opts...)
			must(t, err)
		}
		join("merchant 1", patterns.Group("merchant"))
		join("merchant 2", patterns.Group("merchant"))
		join("private 1")
		for n := range 10 {
			must(t, ps.Publish(t.Context(), n))
			synctest.Wait()
		}
		join("private 2") // too late for those
		join("ledger", patterns.Group("ledger"))
		synctest.Wait()
		whole := fmt.Sprint([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
		for _, name := range []string{"private 1", "ledger"} {
			if all := got[name].snapshot(); fmt.Sprint(all) != whole {
				t.Errorf("%s got %v", name, all)
			}
		}
		if all := got["private 2"].snapshot(); len(all) != 0 {
			t.Errorf("a late private subscriber got %v", all)
		}
		m1, m2 := got["merchant 1"].snapshot(), got["merchant 2"].snapshot()
		both := append(slices.Clone(m1), m2...)
		slices.Sort(both)
		if fmt.Sprint(both) != whole || len(m1) != 5 {
			t.Errorf("the group's members got %v and %v", m1, m2)
		}
	})
}

func TestGroupOutlivesItsMembers(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		ps := patterns.NewPubSub[int](bus, "placed")
		sub, err := ps.Subscribe(t.Context(), func(context.Context, int) error { return nil }, patterns.Group("merchant"))
		must(t, err)
		must(t, sub.Stop(t.Context()))
		must(t, ps.Publish(t.Context(), 1))
		broker.Restart()
		got := newJournal[int]()
		_, err = ps.Subscribe(t.Context(), func(ctx context.Context, n int) error {
			d, _ := patterns.DeliveryFrom(ctx)
			if d.Queue != "placed:merchant" {
				t.Errorf("from queue %q", d.Queue)
			}
			got.add(n)
			return nil
		}, patterns.Group("merchant"))
		must(t, err)
		synctest.Wait()
		if all := got.snapshot(); len(all) != 1 {
			t.Errorf("after its absence the group got %v", all)
		}
		must(t, ps.Unbind(t.Context(), "merchant"))
		must(t, ps.Publish(t.Context(), 2))
		synctest.Wait()
		if all := got.snapshot(); len(all) != 1 {
			t.Errorf("after Unbind the group got %v", all)
		}
		wantErr(t, "Unbind of no group", ps.Unbind(t.Context(), ""), adapters.ErrInvalid)
	})
}

// A retry concerns the group whose handler failed, and keeps its key.
func TestRetryGoesToTheGroupThatFailed(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		topic := patterns.NewTopic[int](bus, "news")
		type seen struct {
			group, key string
			try        int
		}
		all := newJournal[seen]()
		for _, group := range []string{"good", "bad"} {
			_, err := topic.Subscribe(t.Context(), []string{"usa.#"}, func(ctx context.Context, _ int) error {
				d, _ := patterns.DeliveryFrom(ctx)
				all.add(seen{group, d.Key, d.Attempt})
				if group == "bad" && d.Attempt == 1 {
					return patterns.RetryAfter(0, errKitchen)
				}
				return nil
			}, patterns.Group(group))
			must(t, err)
		}
		must(t, topic.Publish(t.Context(), "usa.weather", 1))
		synctest.Wait()
		got := all.snapshot()
		slices.SortFunc(got, func(a, b seen) int { return len(a.group)*10 + a.try - len(b.group)*10 - b.try })
		want := []seen{{"bad", "usa.weather", 1}, {"bad", "usa.weather", 2}, {"good", "usa.weather", 1}}
		if !slices.Equal(got, want) {
			t.Errorf("handled %v, want %v", got, want)
		}
	})
}

func TestRoutedAndTopicSelect(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		routed, topic := patterns.NewRouted[string](bus, "logs"), patterns.NewTopic[string](bus, "news")
		got := map[string]*journal[string]{}
		handler := func(name string) patterns.Handler[string] {
			got[name] = newJournal[string]()
			return func(_ context.Context, s string) error { got[name].add(s); return nil }
		}
		for name, keys := range map[string][]string{"errors": {"error"}, "all": {"error", "warning", "info"}} {
			must(t, second(routed.Subscribe(t.Context(), keys, handler(name))))
		}
		for name, patterns := range map[string][]string{"usa": {"usa.#"}, "weather": {"*.weather"}, "both": {"usa.#", "*.weather", "usa.weather"}} {
			must(t, second(topic.Subscribe(t.Context(), patterns, handler(name))))
		}
		for _, key := range []string{"info", "error", "debug"} {
			must(t, routed.Publish(t.Context(), key, key))
		}
		must(t, topic.PublishBatch(t.Context(), "usa.weather", []string{"uw"}))
		for _, key := range []string{"usa", "europe.weather", "europe.news", "usa.ne.news"} {
			r, err := topic.PublishAsync(t.Context(), key, key)
			must(t, err)
			must(t, r.Wait(t.Context()))
		}
		synctest.Wait()
		for name, want := range map[string]string{
			"errors": "[error]", "all": "[info error]",
			"usa": "[uw usa usa.ne.news]", "weather": "[uw europe.weather]", "both": "[uw usa europe.weather usa.ne.news]",
		} {
			if all := fmt.Sprint(got[name].snapshot()); all != want {
				t.Errorf("%s got %s, want %s", name, all, want)
			}
		}
	})
}

func TestKeysOfAGroupAddUpUntilUnbound(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		routed := patterns.NewRouted[string](bus, "logs")
		must(t, routed.Declare(t.Context(), []string{"error"}, patterns.Group("g")))
		got := newJournal[string]()
		_, err := routed.Subscribe(t.Context(), []string{"info"}, func(_ context.Context, s string) error { got.add(s); return nil }, patterns.Group("g"))
		must(t, err)
		must(t, routed.Publish(t.Context(), "error", "1"))
		must(t, routed.Unbind(t.Context(), "g", "error"))
		must(t, routed.Publish(t.Context(), "error", "2"))
		must(t, routed.Publish(t.Context(), "info", "3"))
		synctest.Wait()
		if all := fmt.Sprint(got.snapshot()); all != "[1 3]" {
			t.Errorf("got %s", all)
		}
	})
}

// TestEveryVerb: those that no other test has.
func TestEveryVerb(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		ctx := t.Context()
		got := newJournal[string]()
		handler := func(ctx context.Context, s string) error {
			d, _ := patterns.DeliveryFrom(ctx)
			got.add(d.Queue + " " + d.Key + " " + s)
			return nil
		}
		pubsub, routed, topic := patterns.NewPubSub[string](bus, "p"), patterns.NewRouted[string](bus, "r"), patterns.NewTopic[string](bus, "t")
		must(t, second(pubsub.Subscribe(ctx, handler, patterns.Group("g"))))
		must(t, second(routed.Subscribe(ctx, []string{"error"}, handler, patterns.Group("g"))))
		must(t, second(topic.Subscribe(ctx, []string{"*.a", "b.#"}, handler, patterns.Group("g"))))

		must(t, second(pubsub.PublishAsync(ctx, "1")))
		must(t, pubsub.Unbind(ctx, "g"))
		must(t, pubsub.Publish(ctx, "nobody's"))
		must(t, routed.PublishBatch(ctx, "error", []string{"2", "3"}))
		must(t, second(routed.PublishAsync(ctx, "error", "4")))
		must(t, topic.Publish(ctx, "c.a", "5"))
		must(t, topic.Unbind(ctx, "g", "*.a"))
		must(t, topic.Publish(ctx, "c.a", "nobody's"))
		must(t, topic.Publish(ctx, "b.a", "6"))
		for _, err := range []error{pubsub.Unbind(ctx, ""), routed.Unbind(ctx, "", "error"), topic.Unbind(ctx, "g")} {
			wantErr(t, "unbind what is not said", err, adapters.ErrInvalid)
		}
		synctest.Wait()
		want := []string{"p:g  1", "r:g error 2", "r:g error 3", "r:g error 4", "t:g b.a 6", "t:g c.a 5"}
		if all := slices.Sorted(slices.Values(got.snapshot())); !slices.Equal(all, want) {
			t.Errorf("got %q", all)
		}
	})
}
