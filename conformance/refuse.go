package conformance

import (
	"errors"
	"time"

	"github.com/motifmq/motif/adapters"
)

// refusable are the abilities that a program asks for by what it declares,
// subscribes or publishes. The others are promises only.
const refusable = ^(adapters.CanPersist | adapters.CanConfirm | adapters.CanRequeue | adapters.CanBalance | adapters.CanReportHealth)

// refuses checks that what takes one of these abilities is refused in the
// adapter's name, by every method that could be asked for it.
func (t *trial) refuses(abilities adapters.Ability) {
	if abilities &= refusable; abilities == 0 {
		return
	}
	d := t.connect()
	for _, ability := range adapters.Abilities() {
		if !abilities.Has(ability) {
			continue
		}
		ask := askFor(ability, t.name("refused"))
		if p := ask.publish; p != nil {
			t.refused(d.Publish(t.soon(), *p, text("refused")...), ability, "Publish")
		}
		if s := ask.source; s != nil {
			if s.Kind != adapters.Reply {
				t.refused(d.Declare(t.soon(), *s), ability, "Declare")
			}
			sub, err := d.Subscribe(t.soon(), *s)
			if err == nil {
				_ = sub.Stop()
			}
			t.refused(err, ability, "Subscribe")
		}
		if ability == adapters.CanGet {
			_, err := d.Get(t.soon(), queue(t.name("refused"), 1))
			t.refused(err, ability, "Get")
		}
		if ability == adapters.CanUnbind {
			t.refused(d.Unbind(t.soon(), group(adapters.Fanout, t.name("refused"), "group")), ability, "Unbind")
		}
		if ability == adapters.CanCancel {
			t.refused(d.Cancel(t.soon(), queue(t.name("refused"), 1).Endpoint, "refused"), ability, "Cancel")
		}
		if inspect := inspections[ability]; inspect != nil {
			t.refused(inspect(t.soon(), d, t.name("refused")), ability, "an Inspector's method")
		}
	}
}

func (t *trial) refused(err error, ability adapters.Ability, method string) {
	refusal, ok := errors.AsType[*adapters.UnsupportedError](err)
	switch {
	case err == nil:
		t.errorf("%s with %v is not claimed, and did not fail", method, ability)
	case !ok || !errors.Is(err, adapters.ErrUnsupported):
		t.errorf("%s with %v is not claimed, and failed with %v, which is no *adapters.UnsupportedError", method, ability, err)
	case !refusal.Missing.Has(ability):
		t.errorf("%s with %v was refused for lack of %v", method, ability, refusal.Missing)
	case refusal.Adapter != t.claims.Adapter:
		t.errorf("%s with %v was refused in the name of %q, not of %q", method, ability, refusal.Adapter, t.claims.Adapter)
	}
}

// asking is what takes an ability.
type asking struct {
	publish *adapters.Publication
	source  *adapters.Source
}

func askFor(ability adapters.Ability, name string) asking {
	q := queue(name, 1)
	p := to(q)
	both := func(s adapters.Source) asking {
		p := to(s)
		return asking{&p, &s}
	}
	switch ability {
	case adapters.CanFanout:
		return both(private(adapters.Fanout, name))
	case adapters.CanRoute:
		return both(private(adapters.Direct, name, "key"))
	case adapters.CanTopic:
		return both(private(adapters.Topic, name, "key"))
	case adapters.CanExchange:
		p.To.Kind = adapters.Exchange
		return asking{publish: &p}
	case adapters.CanReply:
		return asking{source: &adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1}}
	case adapters.CanGroup:
		s := group(adapters.Fanout, name, "group")
		return asking{source: &s}
	case adapters.CanReturn:
		p.Mandatory = true
		return asking{publish: &p}
	case adapters.CanDelay:
		p.Delay = time.Second
		return asking{publish: &p}
	case adapters.CanUnique:
		p.UniqueFor = time.Hour
		return asking{publish: &p}
	case adapters.CanExpire:
		p.TTL, q.Queue.MessageTTL = time.Hour, time.Hour
		return asking{&p, &q}
	case adapters.CanPrioritize:
		p.Priority, q.Queue.MaxPriority = 1, 5
		return asking{&p, &q}
	case adapters.CanLimit:
		q.Queue.MaxLength = 10
	case adapters.CanDeadLetter:
		q.Queue.DeadLetter = name + "-dead"
	case adapters.CanPassive:
		q.Passive = true
	case adapters.CanAutoDelete:
		q.Queue.AutoDelete = true
	case adapters.CanSingleActive:
		q.Queue.SingleActive = true
	default:
		return asking{}
	}
	return asking{source: &q}
}
