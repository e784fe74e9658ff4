package conformance

import "github.com/motifmq/motif/adapters"

var pubsubCases = []Case{
	{
		ID:    "pubsub/private-copies",
		Rule:  "Every private subscription to a fanout exchange gets a copy of what is published after it was made.",
		Needs: adapters.CanFanout,
		run: func(t *trial) {
			d, s := t.connect(), private(adapters.Fanout, t.name("news"))
			first := t.subscribe(d, s)
			t.publish(d, to(s), "a")
			second := t.subscribe(t.connect(), s)
			t.publish(d, to(s), "b", "c")
			same(t, t.take(first, 3), []string{"a", "b", "c"}, "what the first subscription got")
			same(t, t.take(second, 2), []string{"b", "c"}, "what the second one got")
		},
	},
}
