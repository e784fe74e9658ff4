package memory

import (
	"fmt"
	"maps"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// Why a message died, in RabbitMQ's words.
const (
	diedRejected = "rejected"
	diedExpired  = "expired"
	diedOverflow = "maxlen"
)

// Metadata that is added to a dead letter.
const (
	MetadataFirstDeathReason = "x-first-death-reason" // rejected, expired or maxlen
	MetadataFirstDeathQueue  = "x-first-death-queue"  // the queue where that was
	MetadataDeaths           = "x-death"              // all of them, newest first: "orders rejected 2, retry expired 1"
)

// death says how often a message died in one queue for one reason.
type death struct {
	queue, reason string
	count         int
}

// deadEntry is a message that died and is to be dead-lettered.
type deadEntry struct {
	entry  *entry
	reason string
}

// markDead notes that e, which is out of the queue, has to be dead-lettered.
func (q *queue) markDead(e *entry, reason string) {
	if q.spec.DeadLetter != "" {
		q.dead = append(q.dead, deadEntry{e, reason})
	}
}

// deadLetter sends what died in the queue from to where its dead letters go. The message is dropped
// if that queue does not exist or refuses it, or if it has been there before without anybody having
// rejected it.
func (b *Broker) deadLetter(d deadEntry, from *queue) {
	to := b.routes.find(adapters.Endpoint{Kind: adapters.Queue, Name: from.spec.DeadLetter})
	if to == nil {
		return
	}
	failed := b.failedDeliveries(d, from)
	e := &entry{record: d.entry.record, redelivered: failed > 0, failedDeliveries: failed}
	r := &e.record
	r.deaths = addDeath(r.deaths, from.name, d.reason)
	if d.reason != diedRejected && isCycle(r.deaths, to.name) {
		return
	}
	if !r.lasting {
		r.props.TTL = 0 // else it would die there for the same reason
	}
	if r.metadata = maps.Clone(r.metadata); r.metadata == nil {
		r.metadata = make(map[string]string)
	}
	if _, before := r.metadata[MetadataFirstDeathQueue]; !before {
		r.metadata[MetadataFirstDeathReason] = d.reason
		r.metadata[MetadataFirstDeathQueue] = from.name
	}
	r.metadata[MetadataDeaths] = deathsText(r.deaths)
	_ = to.put(e)
}

// failedDeliveries returns the count of failed deliveries that goes with a dead letter to its new
// queue. If there are any, it is delivered as redelivered.
func (b *Broker) failedDeliveries(d deadEntry, from *queue) int {
	switch {
	case b.version == RabbitMQ43:
		return d.entry.failedDeliveries
	case b.version == RabbitMQ310 || from.ready.order == classic:
		return 0
	case d.reason == diedRejected:
		return d.entry.failedDeliveries + 1
	}
	return d.entry.failedDeliveries
}

func addDeath(old []death, queue, reason string) []death {
	deaths := []death{{queue, reason, 1}}
	for _, d := range old {
		if d.queue == queue && d.reason == reason {
			deaths[0].count += d.count
		} else {
			deaths = append(deaths, d)
		}
	}
	return deaths
}

// isCycle reports whether the message was in the queue before, without anybody having rejected it
// since.
func isCycle(deaths []death, queue string) bool {
	for _, d := range deaths {
		if d.reason == diedRejected {
			return false
		}
		if d.queue == queue {
			return true
		}
	}
	return false
}

func deathsText(deaths []death) string {
	texts := make([]string, len(deaths))
	for i, d := range deaths {
		texts[i] = fmt.Sprintf("%s %s %d", d.queue, d.reason, d.count)
	}
	return strings.Join(texts, ", ")
}
