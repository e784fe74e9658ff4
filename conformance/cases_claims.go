package conformance

import "github.com/motifmq/motif/adapters"

var claimsCases = []Case{
	{
		ID:   "claims/as-said",
		Rule: "Features says what the adapter claims, also after Close.",
		run: func(t *trial) {
			d := t.connect()
			same(t, []adapters.Features{d.Features()}, []adapters.Features{t.want(d.Features())}, "before Close")
			t.must(d.Close(t.soon()), "closing")
			same(t, []adapters.Features{d.Features()}, []adapters.Features{t.want(d.Features())}, "after Close")
		},
	},
}

// want returns what is claimed, with the limits of the adapter's own.
func (t *trial) want(f adapters.Features) adapters.Features {
	f.Adapter, f.Ability = t.claims.Adapter, t.claims.Ability
	return f
}
