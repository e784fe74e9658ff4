package model

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// describe returns all of a message that a program could see, but for the time
// of day.
func describe(d adapters.Delivery) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", d.Message.UUID)
	say := func(is bool, format string, args ...any) {
		if is {
			fmt.Fprintf(&b, " "+format, args...)
		}
	}
	say(d.Redelivered, "redelivered")
	say(d.Returned != 0, "returned=%d", d.Returned)
	say(d.Died, "died")
	say(d.Key != "", "key=%q", d.Key)
	say(d.Attempt != 1, "attempt=%d", d.Attempt)
	say(d.Lost != 0, "lost=%d", d.Lost)
	say(d.Priority != 0, "priority=%d", d.Priority)
	say(d.TTL != 0, "ttl=%v", d.TTL)
	say(d.Transient, "transient")
	say(d.ContentType != "", "type=%q", d.ContentType)
	say(d.CorrelationID != "", "correlation=%q", d.CorrelationID)
	say(d.ReplyTo != "", "reply=%q", d.ReplyTo)
	say(d.Timestamp.IsZero(), "without a time")
	say(string(d.Message.Payload) != payload(d.Message.UUID), "payload=%q", d.Message.Payload)
	for _, key := range slices.Sorted(maps.Keys(d.Message.Metadata)) {
		say(true, "%s=%q", key, d.Message.Metadata[key])
	}
	return b.String()
}

func payload(id string) string { return "payload of " + id }

var sentinels = map[error]string{
	adapters.ErrClosed: "closed", adapters.ErrStopped: "stopped", adapters.ErrInvalid: "invalid", adapters.ErrUnsupported: "unsupported",
	adapters.ErrUnroutable: "unroutable", adapters.ErrNacked: "nacked", adapters.ErrUnconfirmed: "unconfirmed", adapters.ErrTooLarge: "too large",
	adapters.ErrUnavailable: "unavailable", adapters.ErrMismatch: "mismatch", adapters.ErrNotFound: "not found", adapters.ErrEmpty: "empty",
	adapters.ErrStaleDelivery: "stale",
}

// outcome renders an error as what a program can tell of it.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	if p, ok := errors.AsType[*adapters.PublishError](err); ok {
		var texts []string
		for _, f := range p.Failed {
			texts = append(texts, f.UUID+" "+outcome(f.Err))
		}
		return strings.Join(texts, ", ")
	}
	var texts []string
	for sentinel, text := range sentinels {
		if errors.Is(err, sentinel) {
			texts = append(texts, text)
		}
	}
	if texts == nil {
		return err.Error()
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}
