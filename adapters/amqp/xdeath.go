package amqp

import (
	"slices"
	"strings"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// Metadata of a dead letter, as in package memory.
const (
	metadataDeaths           = "x-death" // newest first: "orders rejected 2, retry expired 1"
	metadataFirstDeathReason = "x-first-death-reason"
	metadataFirstDeathQueue  = "x-first-death-queue"
)

// deathHeaders are the headers that RabbitMQ adds to a dead letter.
type deathHeaders struct {
	list                    []any  // x-death: one entry for each queue and reason, the latest first
	firstQueue, firstReason string // these never change
	lastQueue, lastReason   string // from 4.0 on
}

// readHeader reads all but x-death.
func (d *deathHeaders) readHeader(name, text string) {
	switch name {
	case metadataFirstDeathQueue:
		d.firstQueue = text
	case metadataFirstDeathReason:
		d.firstReason = text
	case "x-last-death-queue":
		d.lastQueue = text
	case "x-last-death-reason":
		d.lastReason = text
	}
}

// deathRecord says how often a message died in one queue for one reason.
type deathRecord struct {
	queue, reason, exchange string
	keys                    []any
	count                   int
	since                   time.Time // the first time, in whole seconds
}

func (r *deathRecord) matches(queue, reason string) bool {
	return r.queue == queue && r.reason == reason
}

// records returns the entries of x-death, the latest first, without those of the delay ladder.
func (d *deathHeaders) records() (all []deathRecord) {
	for _, item := range d.list {
		table, _ := item.(amqp091.Table)
		this := deathRecord{queue: text(table["queue"]), reason: text(table["reason"]), exchange: text(table["exchange"]), count: count(table["count"])}
		this.keys, _ = table["routing-keys"].([]any)
		this.since, _ = table["time"].(time.Time)
		if this.queue != "" && !strings.HasPrefix(this.queue, ladderPrefix) {
			all = append(all, this)
		}
	}
	last := slices.IndexFunc(all, func(record deathRecord) bool { return record.matches(d.lastQueue, d.lastReason) })
	if last > 0 {
		newest := all[last]
		all = slices.Insert(slices.Delete(all, last, last+1), 0, newest)
	}
	return all
}

// firstOf returns the record of the first death. If no header says which that was, because it was
// in the delay ladder, it is the oldest record; of several in the same second the one with the
// highest count (a message that goes round has died there once more), and of those the last one.
func (d *deathHeaders) firstOf(all []deathRecord) deathRecord {
	first := all[0]
	for _, record := range all {
		switch {
		case record.matches(d.firstQueue, d.firstReason):
			return record
		case !record.since.After(first.since) && (record.since.Before(first.since) || record.count >= first.count):
			first = record
		}
	}
	return first
}

// addDeathMetadata makes metadata of what RabbitMQ says.
func (d *decoder) addDeathMetadata(exchange string) {
	all := d.deaths.records()
	if len(all) == 0 {
		return
	}
	d.out.Died = true
	var texts []string
	for _, record := range all {
		texts = append(texts, record.queue+" "+record.reason+" "+text(record.count))
	}
	d.m.Metadata[metadataDeaths] = strings.Join(texts, ", ")
	first := d.deaths.firstOf(all)
	if _, before := d.m.Metadata[metadataFirstDeathQueue]; !before { // else it is of an earlier life, before it was sent again
		d.m.Metadata[metadataFirstDeathReason], d.m.Metadata[metadataFirstDeathQueue] = first.reason, first.queue
	}
	if len(first.keys) > 0 && first.exchange != "" && !d.isOfDelays(first.exchange) && exchange == "" {
		d.out.Key = text(first.keys[0]) // a dead letter keeps the key that it was first published with
	}
}
