package deadletters

import (
	"fmt"
	"strings"
	"time"

	"github.com/motifmq/motif/patterns"
)

// Explain says in sentences what happened to the letter, as far as it and its broker tell. now is
// the time to count its age to. The sentences quote what the letter says of itself, which may be
// anything: see [Printable].
func (l *Letter) Explain(now time.Time) (sentences []string) {
	say := func(format string, args ...any) { sentences = append(sentences, fmt.Sprintf(format, args...)) }
	m := l.Message.Metadata
	if reason, ok := m[patterns.HeaderReason]; ok {
		text := fmt.Sprintf("A handler gave it up in queue %q", l.From())
		if at := l.DiedAt(); !at.IsZero() {
			text += fmt.Sprintf(" at %s, %s ago", at.UTC().Format(time.RFC3339), short(l.Age(now)))
		}
		if n := l.Attempts(); n > 0 {
			text += ", at attempt " + fmt.Sprint(n)
		}
		say("%s: %s", text, ended(reason))
	}
	if n := l.Losses(); n > 0 {
		say("Its worker was lost %s while it was handled: a process that died, or one that held it for longer than the broker allows.", times(n))
	}
	for i, d := range l.deaths() {
		verb := "The broker made a dead letter of it"
		if i > 0 {
			verb = "Before, it did so"
		}
		say("%s in queue %q, %s: %s.", verb, d.queue, times(d.count), brokerReason(d.reason))
	}
	if len(l.deaths()) > 1 && m[headerFirstQueue] != "" {
		say("It died first in queue %q: %s.", m[headerFirstQueue], brokerReason(m[headerFirstReason]))
	}
	if len(sentences) == 0 {
		say("It does not say why it is here.")
	}
	if repair, ok := m[patterns.HeaderRepair]; ok {
		say("A handler of dead letters could not repair it: %s", ended(repair))
	}
	if at, err := time.Parse(time.RFC3339Nano, m[patterns.HeaderNotBefore]); err == nil {
		say("It is to be tried again at %s.", at.Format(time.RFC3339))
	}
	if run := m[HeaderReplay]; run != "" {
		say("It was replayed before, by run %s, and died again.", run)
	}
	switch {
	case l.Returned > 0:
		say("It has come back to this queue %s with no outcome: looked at, given back, or its consumer was lost.", times(l.Returned))
	case l.Returned < 0:
		say("It was delivered from this queue before, and came back.")
	}
	if l.TTL > 0 {
		say("It has a time to live of %s, which counts again once it is sent back.", l.TTL)
	}
	if to := l.From(); to != "" {
		say("A replay sends it to queue %q.", to)
	} else {
		say("It does not say where it died: a replay has to be told where to send it.")
	}
	return sentences
}

// brokerReason explains one of RabbitMQ's words.
func brokerReason(reason string) string {
	switch reason {
	case "rejected":
		return "a consumer rejected it"
	case "expired":
		return "it waited for longer than its time to live, or the queue's"
	case "maxlen":
		return "the queue was full and dropped it"
	case "delivery_limit":
		return "it was delivered more often than the queue's delivery limit allows"
	case "":
		return "for a reason that it does not say"
	}
	return reason
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprint(n, " times")
}

func ended(sentence string) string {
	if strings.HasSuffix(sentence, ".") {
		return sentence
	}
	return sentence + "."
}

// short formats a duration for people, in its largest unit or two.
func short(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "?"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// Short formats a duration for people: "3h05m". A negative one is "?".
func Short(d time.Duration) string { return short(d) }
