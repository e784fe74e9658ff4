package conformance

import (
	"strings"

	"github.com/motifmq/motif/adapters"
)

// publishKey publishes a message with this key, which is its id too where none
// is given.
func (t *trial) publishKey(d adapters.Driver, s adapters.Source, key string, ids ...string) {
	if ids == nil {
		ids = []string{key}
	}
	p := to(s)
	p.Key = key
	t.publish(d, p, ids...)
}

var routedCases = []Case{
	{
		ID:    "routed/exact-key",
		Rule:  "A subscription to a direct exchange gets the messages with exactly its key, and no others.",
		Needs: adapters.CanRoute,
		run: func(t *trial) {
			d, s := t.connect(), private(adapters.Direct, t.name("logs"), "error")
			sub := t.subscribe(d, s)
			for _, key := range []string{"warning", "err", "error.disk", "errors", "error", "an error", "error"} {
				t.publishKey(d, s, key, key)
			}
			t.publishKey(d, s, "error", "last")
			same(t, t.take(sub, 3), []string{"error", "error", "last"}, "what it got")
		},
	},
	{
		ID:    "routed/bytes",
		Rule:  "Keys are compared byte by byte: case, spaces, accents and empty words count, and there are no wildcards in a direct exchange.",
		Needs: adapters.CanRoute,
		run: func(t *trial) {
			d, name := t.connect(), t.name("logs")
			keys := []string{"a", "A", "a ", " a", "a.", ".a", "*", "#", "a.*", "a.#", "", " ", "é", "e\u0301", "日本", strings.Repeat("k", adapters.MaxKeyBytes)}
			subs := make([]adapters.Subscription, len(keys))
			for i, key := range keys {
				subs[i] = t.subscribe(d, private(adapters.Direct, name, key, "the end"))
			}
			ids := numbered("m", len(keys))
			for i, key := range keys {
				t.publishKey(d, private(adapters.Direct, name), key, ids[i])
			}
			t.publishKey(d, private(adapters.Direct, name), "the end")
			for i, sub := range subs {
				if got := t.until(sub, "the end", 1); len(got) != 1 || got[0] != ids[i] {
					t.errorf("a subscription to the key %q got the messages with the keys %q", keys[i], lookUp(got, ids, keys))
				}
			}
		},
	},
	{
		ID:    "routed/several-keys",
		Rule:  "A subscription with several keys gets the messages with each of them, in the order in which they were published.",
		Needs: adapters.CanRoute,
		run: func(t *trial) {
			d, s := t.connect(), private(adapters.Direct, t.name("logs"), "error", "warning", "fatal")
			sub := t.subscribe(d, s)
			for _, key := range []string{"warning", "info", "fatal", "error", "debug", "warning"} {
				t.publishKey(d, s, key)
			}
			same(t, t.take(sub, 4), []string{"warning", "fatal", "error", "warning"}, "what it got")
		},
	},
	{
		ID:    "routed/one-copy",
		Rule:  "A key that is given twice, or bound again by another member of a group, makes one copy.",
		Needs: adapters.CanRoute | adapters.CanGroup,
		run: func(t *trial) {
			d, name := t.connect(), t.name("logs")
			s := group(adapters.Direct, name, "keep", "error", "error")
			t.declare(d, s)
			t.declare(t.connect(), group(adapters.Direct, name, "keep", "error", "warning"))
			sub, private := t.subscribe(d, s), t.subscribe(d, private(adapters.Direct, name, "error", "error"))
			t.publishKey(d, s, "error", "a")
			t.publishKey(d, s, "error", "b")
			same(t, t.take(sub, 2), []string{"a", "b"}, "what the group got")
			same(t, t.take(private, 2), []string{"a", "b"}, "what the private subscription got")
		},
	},
	{
		ID:    "routed/groups",
		Rule:  "Every group that has a message's key gets a copy of it, and no other group.",
		Needs: adapters.CanRoute | adapters.CanGroup,
		run: func(t *trial) {
			d, name := t.connect(), t.name("logs")
			all := group(adapters.Direct, name, "all", "error", "warning", "info")
			alarm := group(adapters.Direct, name, "alarm", "error")
			t.declare(d, all)
			t.declare(d, alarm)
			for _, key := range []string{"info", "error", "warning", "debug", "error"} {
				t.publishKey(d, all, key)
			}
			same(t, t.take(t.subscribe(d, all), 4), []string{"info", "error", "warning", "error"}, "what one group got")
			same(t, t.take(t.subscribe(d, alarm), 2), []string{"error", "error"}, "what the other one got")
		},
	},
	{
		ID:    "routed/keys-add-up",
		Rule:  "The keys of a group add up over its subscriptions: one that comes with other keys takes none away, not when it ends either.",
		Needs: adapters.CanRoute | adapters.CanGroup,
		run: func(t *trial) {
			d, name := t.connect(), t.name("logs")
			errors, warnings := group(adapters.Direct, name, "keep", "error"), group(adapters.Direct, name, "keep", "warning")
			t.must(t.subscribe(d, errors).Stop(), "stopping")
			other := t.connect()
			t.subscribe(other, warnings)
			t.must(other.Close(t.soon()), "closing the client")
			for _, key := range []string{"warning", "info", "error"} {
				t.publishKey(d, errors, key)
			}
			same(t, t.take(t.subscribe(d, errors), 2), []string{"warning", "error"}, "what the group got")
		},
	},
	{
		ID:    "routed/unbind",
		Rule:  "Unbind takes exactly the keys that it is given from exactly that group, and leaves in the queue what is there.",
		Needs: adapters.CanRoute | adapters.CanGroup | adapters.CanUnbind,
		run: func(t *trial) {
			d, name := t.connect(), t.name("logs")
			keep := group(adapters.Direct, name, "keep", "a", "b", "c")
			other := group(adapters.Direct, name, "other", "a", "b", "c")
			t.declare(d, keep)
			t.declare(d, other)
			t.publishKey(d, keep, "b", "before")
			less := keep
			less.Keys = []string{"b"}
			t.must(d.Unbind(t.soon(), less), "unbinding")
			for _, key := range keep.Keys {
				t.publishKey(d, keep, key)
			}
			rest := keep
			rest.Keys = []string{"a"} // a subscription would bind the others again
			same(t, t.take(t.subscribe(d, rest), 3), []string{"before", "a", "c"}, "what the group got")
			same(t, t.take(t.subscribe(d, other), 4), []string{"before", "a", "b", "c"}, "what the other group got")
		},
	},
	{
		ID:    "routed/unbind-missing",
		Rule:  "To unbind a key that is not bound is no error, and changes nothing.",
		Needs: adapters.CanRoute | adapters.CanGroup | adapters.CanUnbind,
		run: func(t *trial) {
			d, s := t.connect(), group(adapters.Direct, t.name("logs"), "keep", "a")
			t.declare(d, s)
			missing := s
			missing.Keys = []string{"b"}
			t.must(d.Unbind(t.soon(), missing), "unbinding a key that was never bound")
			t.must(d.Unbind(t.soon(), missing), "unbinding it again")
			t.publishKey(d, s, "a")
			same(t, t.take(t.subscribe(d, s), 1), []string{"a"}, "what the group got")
			err := d.Unbind(t.soon(), private(adapters.Direct, s.Name, "a"))
			t.is(err, adapters.ErrInvalid, "unbinding a private source")
		},
	},
	{
		ID:    "routed/key-delivered",
		Rule:  "A delivery has the key that its message was published with.",
		Needs: adapters.CanRoute | adapters.CanGroup,
		run: func(t *trial) {
			d, name := t.connect(), t.name("logs")
			keys := []string{"error", "", "disk.full", "#", "日本", strings.Repeat("k", adapters.MaxKeyBytes)}
			s := group(adapters.Direct, name, "keep", keys...)
			subs := []adapters.Subscription{t.subscribe(d, s), t.subscribe(d, private(adapters.Direct, name, keys...))}
			for i, key := range keys {
				t.publishKey(d, s, key, numbered("m", len(keys))[i])
			}
			for _, sub := range subs {
				var got []string
				for range keys {
					d := t.receive(sub)
					t.settle(d, adapters.Ack)
					got = append(got, d.Key)
				}
				same(t, got, keys, "the keys delivered")
			}
		},
	},
}

// until acknowledges what comes until it has the message with this id and at least so many others,
// whose ids it returns. What comes again after a lost session may be behind the last one.
func (t *trial) until(sub adapters.Subscription, last string, least int) (got []string) {
	for ended := false; !ended || len(got) < least; {
		d := t.receive(sub)
		t.settle(d, adapters.Ack)
		if d.Message.UUID == last {
			ended = true
		} else {
			got = append(got, d.Message.UUID)
		}
	}
	return got
}

// lookUp returns what stands for each of ids in the list beside.
func lookUp(got, ids, beside []string) []string {
	found := make([]string, 0, len(got))
	for _, id := range got {
		for i := range ids {
			if ids[i] == id {
				found = append(found, beside[i])
			}
		}
	}
	return found
}
