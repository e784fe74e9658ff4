package adapters

import (
	"testing"
)

func TestKind(t *testing.T) {
	for _, c := range []struct {
		kind           Kind
		name           string
		exchange, keys bool
	}{
		{Queue, "queue", false, false},
		{Fanout, "fanout", true, false},
		{Direct, "direct", true, true},
		{Topic, "topic", true, true},
		{Reply, "reply", false, false},
		{99, "kind(99)", false, false},
	} {
		if c.kind.String() != c.name || c.kind.IsExchange() != c.exchange || c.kind.UsesKeys() != c.keys {
			t.Errorf("%v: exchange %v, keys %v; want %+v", c.kind, c.kind.IsExchange(), c.kind.UsesKeys(), c)
		}
	}
	if got := (Endpoint{Queue, "orders"}).String(); got != `queue "orders"` {
		t.Errorf("got %s", got)
	}
}
