package conformance

import (
	"github.com/motifmq/motif/adapters"
)

var healthCases = []Case{
	{
		ID:    "health/reporter",
		Rule:  "An adapter that claims to report health is an adapters.HealthReporter, and says that each connection is up and not blocked while all is well.",
		Needs: adapters.CanReportHealth,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			if _, ok := d.Unwrap().(adapters.HealthReporter); !ok {
				t.fatalf("%T has no Health", d.Unwrap())
			}
			sub := t.subscribe(d, s)
			t.publish(d, to(s), "m")
			same(t, t.take(sub, 1), []string{"m"}, "what a queue delivers")
			h := d.Health()
			if len(h.Connections) == 0 {
				t.fatalf("it has no connection")
			}
			for _, c := range h.Connections {
				if !c.Up || c.Blocked || c.Role == "" || c.Generation == 0 {
					t.errorf("a connection that works is %+v", c)
				}
			}
		},
	},
	{
		ID:    "health/closed",
		Rule:  "After Close no connection is up.",
		Needs: adapters.CanReportHealth,
		run: func(t *trial) {
			d := t.connect()
			t.subscribe(d, queue(t.name("queue"), 1))
			t.must(d.Close(t.soon()), "closing")
			h := d.Health()
			if len(h.Connections) == 0 {
				t.errorf("it has no connection")
			}
			for _, c := range h.Connections {
				if c.Up {
					t.errorf("a connection is up after Close: %+v", c)
				}
			}
		},
	},
	{
		ID:    "health/lost",
		Rule:  "A connection that was lost and made again is up, is counted, and says why the one before was lost.",
		Needs: adapters.CanReportHealth,
		Hooks: WithCut,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			t.subscribe(d, s)
			before := d.Health().Connections
			t.must(t.h.Cut(t.soon()), "cutting the sessions")
			var h adapters.Health
			t.await("each connection is made again", func() bool {
				h = d.Health()
				if !h.OK() || len(h.Connections) < len(before) {
					return false
				}
				for i, c := range before {
					if h.Connections[i].Generation <= c.Generation {
						return false
					}
				}
				return true
			})
			for _, c := range h.Connections[:len(before)] {
				if c.LastError == nil {
					t.errorf("a connection in the place of one that was lost does not say why: %+v", c)
				}
			}
		},
	},
}
