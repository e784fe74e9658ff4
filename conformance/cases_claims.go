package conformance

import (
	"context"
	"errors"

	"github.com/motifmq/motif/adapters"
)

var claimsCases = []Case{
	{
		ID:   "claims/as-said",
		Rule: "Features says what the adapter claims, the same for every client and at all times, also after Close.",
		run: func(t *trial) {
			d := t.connect()
			f := d.Features()
			want := f // whose limits are the adapter's own
			want.Adapter, want.Ability = t.claims.Adapter, t.claims.Ability
			same(t, []adapters.Features{f}, []adapters.Features{want}, "what the adapter says, and what is claimed for it")
			same(t, []adapters.Features{t.connect().Features()}, []adapters.Features{f}, "what another client says")
			s := queue(t.name("queue"), 1)
			sub := t.subscribe(d, s)
			t.publish(d, to(s), "a")
			same(t, t.take(sub, 1), []string{"a"}, "what a queue delivers")
			same(t, []adapters.Features{d.Features()}, []adapters.Features{f}, "what it says after some work")
			t.must(d.Close(t.soon()), "closing")
			same(t, []adapters.Features{d.Features()}, []adapters.Features{f}, "what it says after Close")
		},
	},
	{
		ID:    "claims/getter",
		Rule:  "An adapter that claims to get single messages is an adapters.Getter, and says at once that a queue is empty.",
		Needs: adapters.CanGet,
		run: func(t *trial) {
			d := t.connect()
			if _, ok := d.Unwrap().(adapters.Getter); !ok {
				t.fatalf("%T has no Get", d.Unwrap())
			}
			err := t.promptly(func(ctx context.Context) error {
				_, err := d.Get(ctx, queue(t.name("queue"), 0))
				return err
			})
			t.is(err, adapters.ErrEmpty, "getting from an empty queue")
			_, err = d.Get(t.soon(), private(adapters.Fanout, t.name("news")))
			if !errors.Is(err, adapters.ErrUnsupported) { // as an adapter may say that has no exchanges
				t.is(err, adapters.ErrInvalid, "getting from a private source")
			}
		},
	},
	{
		ID:    "claims/unbinder",
		Rule:  "An adapter that claims to unbind is an adapters.Unbinder.",
		Needs: adapters.CanUnbind | adapters.CanGroup | adapters.CanFanout,
		run: func(t *trial) {
			d, s := t.connect(), group(adapters.Fanout, t.name("news"), "merchant")
			if _, ok := d.Unwrap().(adapters.Unbinder); !ok {
				t.fatalf("%T has no Unbind", d.Unwrap())
			}
			t.declare(d, s)
			t.must(d.Unbind(t.soon(), s), "unbinding")
			t.must(d.Unbind(t.soon(), s), "unbinding again")
		},
	},
	{
		ID:    "claims/max-delay",
		Rule:  "A delay longer than the adapter says it can is refused as invalid, and nothing is sent.",
		Needs: adapters.CanDelay,
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			if most := d.Features().MaxDelay; most > 0 {
				p := to(s)
				p.Delay = most + 1
				t.is(d.Publish(t.soon(), p, text("late")...), adapters.ErrInvalid, "publishing with a longer delay")
			}
			t.publish(d, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what comes next")
		},
	},
}
