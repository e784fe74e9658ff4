package conformance

import "github.com/motifmq/motif/adapters"

// existing is a publication to the exchange of s as it stands.
func existing(s adapters.Source, key string) adapters.Publication {
	p := to(s)
	p.To.Kind, p.Key = adapters.Exchange, key
	return p
}

var exchangeCases = []Case{
	{
		ID:    "exchange/as-it-stands",
		Rule:  "What is published to an existing exchange goes where the exchange routes it, of whichever kind it is.",
		Needs: adapters.CanExchange | adapters.CanFanout | adapters.CanRoute | adapters.CanTopic | adapters.CanReturn,
		run: func(t *trial) {
			d := t.connect()
			for _, s := range []adapters.Source{
				private(adapters.Fanout, t.name("fanout")),
				private(adapters.Direct, t.name("direct"), "a.b"),
				private(adapters.Topic, t.name("topic"), "a.*"),
			} {
				sub := t.subscribe(d, s)
				t.publish(d, existing(s, "a.b"), "one", "two")
				if s.Kind != adapters.Fanout {
					p := existing(s, "other")
					t.publish(d, p, "nobody's")
					p.Mandatory = true
					msgs := text("returned")
					t.blames(d.Publish(t.soon(), p, msgs...), adapters.ErrUnroutable, msgs, 0)
				}
				p := to(s) // by its own kind
				if s.Kind != adapters.Fanout {
					p.Key = "a.b"
				}
				t.publish(d, p, "three")
				same(t, t.take(sub, 3), []string{"one", "two", "three"}, "what came through the "+s.Kind.String()+" exchange")
			}
		},
	},
	{
		ID:    "exchange/missing",
		Rule:  "To publish to an existing exchange that does not exist is ErrNotFound and makes none: it can be declared as any kind then, and is used at once.",
		Needs: adapters.CanExchange | adapters.CanTopic,
		run: func(t *trial) {
			d, s := t.connect(), private(adapters.Topic, t.name("topic"), "#")
			for range 2 {
				t.is(d.Publish(t.soon(), existing(s, "a"), text("lost")...), adapters.ErrNotFound, "publishing to an exchange that is missing")
			}
			sub := t.subscribe(t.connect(), s)
			t.publish(d, existing(s, "a"), "found")
			same(t, t.take(sub, 1), []string{"found"}, "what came once it was there")
		},
	},
}
