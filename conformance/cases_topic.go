package conformance

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/motifmq/motif/adapters"
)

var topicCases = []Case{
	{
		ID:    "topic/matrix",
		Rule:  "A topic subscription gets exactly the messages whose key its pattern matches, by RabbitMQ's rules: * is one word, # any number of them, an empty word counts.",
		Needs: adapters.CanTopic,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			rows, keys := matrix()
			var subs []adapters.Subscription
			for _, r := range rows {
				t.must(adapters.ValidatePattern(r.pattern), "checking a pattern") // or the row would be missing
				subs = append(subs, t.subscribe(d, private(adapters.Topic, name, r.pattern, "the end")))
			}
			ids := numbered("m", len(keys))
			for i, key := range keys {
				t.publishKey(d, private(adapters.Topic, name), key, ids[i])
			}
			t.publishKey(d, private(adapters.Topic, name), "the end")
			for i, sub := range subs {
				got := lookUp(t.until(sub, "the end", len(rows[i].matches)), ids, keys)
				slices.Sort(got)
				if want := rows[i].matches; !slices.Equal(got, want) {
					t.errorf("the pattern %q matched the keys %q, not %q", rows[i].pattern, got, want)
				}
			}
		},
	},
	{
		ID:    "topic/one-copy",
		Rule:  "A message that several patterns of a subscription match, or of a group, comes once.",
		Needs: adapters.CanTopic | adapters.CanGroup,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			patterns := []string{"usa.#", "*.weather", "#", "usa.weather", "usa.#"}
			s := group(adapters.Topic, name, "show", patterns...)
			t.declare(d, s)
			t.declare(t.connect(), group(adapters.Topic, name, "show", "#.weather"))
			subs := []adapters.Subscription{t.subscribe(d, s), t.subscribe(d, private(adapters.Topic, name, patterns...))}
			for _, key := range []string{"usa.weather", "europe.weather", "usa.news", "asia"} {
				t.publishKey(d, s, key)
			}
			t.publishKey(d, s, "usa.weather", "last")
			for _, sub := range subs {
				same(t, t.take(sub, 5), []string{"usa.weather", "europe.weather", "usa.news", "asia", "last"}, "what came")
			}
		},
	},
	{
		ID:    "topic/groups",
		Rule:  "Every group with a pattern that matches gets a copy, and no other group.",
		Needs: adapters.CanTopic | adapters.CanGroup,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			usa, weather := group(adapters.Topic, name, "usa", "usa.#"), group(adapters.Topic, name, "weather", "*.weather")
			t.declare(d, usa)
			t.declare(d, weather)
			for _, key := range []string{"usa.weather", "usa", "europe.news", "europe.weather", "usa.weather.today"} {
				t.publishKey(d, usa, key)
			}
			t.publishKey(d, usa, "usa.weather", "last")
			same(t, t.take(t.subscribe(d, usa), 4), []string{"usa.weather", "usa", "usa.weather.today", "last"}, "what the one group got")
			same(t, t.take(t.subscribe(d, weather), 3), []string{"usa.weather", "europe.weather", "last"}, "what the other got")
		},
	},
	{
		ID:    "topic/key-is-text",
		Rule:  "In the key of a message * and # are plain text.",
		Needs: adapters.CanTopic,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			word, all := t.subscribe(d, private(adapters.Topic, name, "usa.weather")), t.subscribe(d, private(adapters.Topic, name, "usa.*"))
			s := private(adapters.Topic, name)
			for _, key := range []string{"usa.*", "usa.#", "#", "*.weather", "usa.weather"} {
				t.publishKey(d, s, key)
			}
			same(t, t.take(word, 1), []string{"usa.weather"}, "what a subscription to one key got first")
			same(t, t.take(all, 3), []string{"usa.*", "usa.#", "usa.weather"}, "what a subscription to a pattern got")
		},
	},
	{
		ID:    "topic/exploding-pattern",
		Rule:  "A pattern that is too long, or has more # than a matcher takes well, is refused as invalid, at once and with nothing declared.",
		Needs: adapters.CanTopic | adapters.CanGroup,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			bad := map[string]string{
				"six #":        "#.a.#.a.#.a.#.a.#.a.#.a",
				"three #":      "#.a.#.b.#",
				"33 words":     strings.Repeat("a.", adapters.MaxPatternWords) + "a",
				"256 bytes":    strings.Repeat("a", adapters.MaxKeyBytes+1),
				"a line break": "a.\n",
				"no UTF-8":     "a.\xff",
			}
			for what, pattern := range bad {
				s := group(adapters.Topic, name, "show", "fine", pattern)
				t.is(t.promptly(func(ctx context.Context) error { return d.Declare(ctx, s) }), adapters.ErrInvalid, "declaring a pattern with "+what)
				s.Group = ""
				t.is(t.promptly(func(ctx context.Context) error { _, err := d.Subscribe(ctx, s); return err }), adapters.ErrInvalid, "subscribing to a pattern with "+what)
			}
			s := group(adapters.Topic, name, "show", "other")
			t.declare(d, s)
			t.publishKey(d, s, "fine")
			t.publishKey(d, s, "other")
			same(t, t.take(t.subscribe(d, s), 1), []string{"other"}, "what a group got that was refused the key \"fine\" together with a bad pattern")
			fine := t.subscribe(d, private(adapters.Topic, name, "#.#.a.#.#", strings.Repeat("*.", adapters.MaxPatternWords-1)+"#")) // # that are adjacent are one
			all := t.subscribe(d, private(adapters.Topic, name, strings.Repeat("#.", adapters.MaxKeyBytes/2)+"#"))
			t.publishKey(d, s, "other")
			t.publishKey(d, s, "x.a.y")
			same(t, t.take(fine, 1), []string{"x.a.y"}, "what a pattern with as much as is allowed got")
			same(t, t.take(all, 2), []string{"other", "x.a.y"}, "what a pattern of nothing but # got")
		},
	},
	{
		ID:    "topic/long-key",
		Rule:  "A key of many words is matched at once, also by the patterns that make most work.",
		Needs: adapters.CanTopic,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			key := strings.Repeat("a.", adapters.MaxKeyBytes/2) + "a"
			sub := t.subscribe(d, private(adapters.Topic, name, "#.a.#.a", "#.a.#.b", "*.#.a.*.#", "#.b.#"))
			err := t.promptly(func(ctx context.Context) error {
				p := to(private(adapters.Topic, name))
				p.Key = key
				return d.Publish(ctx, p, text("long")...)
			})
			t.must(err, "publishing with a key of 128 words")
			got := t.receive(sub)
			t.settle(got, adapters.Ack)
			same(t, []string{got.Message.UUID, got.Key}, []string{"long", key}, "the message and its key")
		},
	},
	{
		ID:    "topic/unbind",
		Rule:  "Unbind takes exactly the patterns that it is given, as text but that adjacent # are one, and one that is bound again counts again.",
		Needs: adapters.CanTopic | adapters.CanGroup | adapters.CanUnbind,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			s := group(adapters.Topic, name, "show", "usa.#", "usa.*", "*.weather", "#.fog.#.#")
			with := func(keys ...string) adapters.Source {
				s := s
				s.Keys = keys
				return s
			}
			t.declare(d, s)
			t.must(d.Unbind(t.soon(), with("usa.#.#", "#.#.fog.#")), "unbinding patterns in another spelling")
			t.must(d.Unbind(t.soon(), with("#", "usa.weather")), "unbinding patterns that are not bound, and match much")
			for _, key := range []string{"usa.a.b", "usa.news", "asia.weather", "usa", "asia.fog"} {
				t.publishKey(d, s, key)
			}
			t.must(d.Unbind(t.soon(), with("usa.*", "*.weather")), "unbinding the rest")
			t.publishKey(d, s, "usa.sport")
			t.declare(d, with("usa.#.#"))
			t.publishKey(d, s, "asia.weather", "asia again")
			t.publishKey(d, s, "usa.c.d")
			same(t, t.take(t.subscribe(d, with("usa.#")), 3), []string{"usa.news", "asia.weather", "usa.c.d"}, "what the group got")
		},
	},
}

// promptly calls f, which must return within half a minute of real work.
func (t *trial) promptly(f func(context.Context) error) error {
	const most = patience / 2
	ctx, cancel := context.WithTimeout(t.ctx, most)
	defer cancel()
	err := f(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		t.errorf("it took more than %v", most)
	}
	return err
}
