package amqp

import (
	"slices"
	"strings"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// What a dead letter tells in its metadata, as in package memory.
const (
	metadataDeaths           = "x-death" // newest first: "orders rejected 2, retry expired 1"
	metadataFirstDeathReason = "x-first-death-reason"
	metadataFirstDeathQueue  = "x-first-death-queue"
)

// deaths is what RabbitMQ tells of a dead letter in headers of its own.
type deaths struct {
	list                    []any  // one for each queue and reason, the last to have happened first
	firstQueue, firstReason string // which never change
	lastQueue, lastReason   string // from 4.0 on
}

// header reads all but the list.
func (d *deaths) header(name, text string) {
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

// death is how often a message died in one queue for one reason.
type death struct {
	queue, reason, exchange string
	keys                    []any
	count                   int
	since                   time.Time // when it did so for the first time, in whole seconds
}

func (d *death) is(queue, reason string) bool { return d.queue == queue && d.reason == reason }

// read returns them, the last one first, without the steps of a delay, which nobody died of.
func (d *deaths) read() (all []death) {
	for _, item := range d.list {
		table, _ := item.(amqp091.Table)
		this := death{queue: text(table["queue"]), reason: text(table["reason"]), exchange: text(table["exchange"]), count: count(table["count"])}
		this.keys, _ = table["routing-keys"].([]any)
		this.since, _ = table["time"].(time.Time)
		if this.queue != "" && !strings.HasPrefix(this.queue, ladder) {
			all = append(all, this)
		}
	}
	last := slices.IndexFunc(all, func(x death) bool { return x.is(d.lastQueue, d.lastReason) })
	if last > 0 {
		newest := all[last]
		all = slices.Insert(slices.Delete(all, last, last+1), 0, newest)
	}
	return all
}

// first returns which of all was the first. If that is not said, because the first of all was a step
// of a delay, it is the one that is the oldest, of several of one second the one that happened most
// often (a message that goes round has died there once more), and of those the last one.
func (d *deaths) first(all []death) death {
	first := all[0]
	for _, x := range all {
		switch {
		case x.is(d.firstQueue, d.firstReason):
			return x
		case !x.since.After(first.since) && (x.since.Before(first.since) || x.count >= first.count):
			first = x
		}
	}
	return first
}

// readDeaths makes metadata of what RabbitMQ tells.
func (d *decoding) readDeaths(exchange string) {
	all := d.deaths.read()
	if len(all) == 0 {
		return
	}
	d.out.Died = true
	var texts []string
	for _, x := range all {
		texts = append(texts, x.queue+" "+x.reason+" "+text(x.count))
	}
	d.m.Metadata[metadataDeaths] = strings.Join(texts, ", ")
	first := d.deaths.first(all)
	if _, before := d.m.Metadata[metadataFirstDeathQueue]; !before { // it was sent again since
		d.m.Metadata[metadataFirstDeathReason], d.m.Metadata[metadataFirstDeathQueue] = first.reason, first.queue
	}
	if len(first.keys) > 0 && first.exchange != "" && exchange == "" {
		d.out.Key = text(first.keys[0]) // a dead letter keeps the key that it first came with
	}
}
