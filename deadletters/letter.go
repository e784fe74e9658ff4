package deadletters

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// HeaderReplay is the header in which a message that was replayed says by which run.
const HeaderReplay = "motif-replay"

// What brokers say of dead letters, as adapters pass it on.
const (
	headerDeaths      = "x-death" // newest first: "orders rejected 2, retry expired 1"
	headerFirstQueue  = "x-first-death-queue"
	headerFirstReason = "x-first-death-reason"
)

const deadSuffix = ".dead"

// A Letter is a dead letter: the message as it was found, and what it says of its death.
type Letter struct {
	adapters.Delivery
	Queue string // the queue of dead letters that it is in

	place int // among the messages of its group, in the order in which they came
}

// Ref returns what names the letter on a command line: its message's id, or, if that is empty, a
// tilde and a digest of its content.
func (l *Letter) Ref() string {
	if l.Message.UUID != "" {
		return l.Message.UUID
	}
	return l.Digest()
}

const digestDigits = 12

// Digest names the letter by its content, as Ref does where it has no id. Letters that differ in
// what a [Record] has of them have different ones, but for their queue.
func (l *Letter) Digest() string {
	d := l.digest()
	return "~" + hex.EncodeToString(d[:])[:digestDigits]
}

// digest is the same for letters that are the same in all that stays when a letter is delivered
// again, which is what its publisher said. Properties.Foreign does not stay: RabbitMQ's counts of
// deliveries are in it.
type digest [16]byte

func (l *Letter) digest() (d digest) {
	h := sha256.New()
	number := func(n int64) { h.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) }
	text := func(s string) {
		number(int64(len(s)))
		h.Write([]byte(s))
	}
	p := &l.Properties
	for _, s := range []string{
		l.Message.UUID, l.Key, p.ContentType, p.ContentEncoding, p.Type, p.AppID, p.CorrelationID, p.ReplyTo,
	} {
		text(s)
	}
	transient := int64(0)
	if p.Transient {
		transient = 1
	}
	for _, n := range []int64{
		p.Timestamp.Unix(), int64(p.Timestamp.Nanosecond()), int64(p.TTL), int64(p.Priority), transient, int64(p.Attempt), int64(p.Lost),
		int64(len(l.Message.Metadata)), // for what follows may look like more of it
	} {
		number(n)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Message.Metadata)) {
		text(name)
		text(l.Message.Metadata[name])
	}
	h.Write(l.Message.Payload)
	copy(d[:], h.Sum(nil))
	return d
}

// Reason returns what the letter died of: the last error of its handler, or the broker's reason, or
// "" if neither is known.
func (l *Letter) Reason() string {
	if reason := l.Message.Metadata[patterns.HeaderReason]; reason != "" {
		return reason
	}
	if deaths := l.deaths(); len(deaths) > 0 {
		return deaths[0].reason
	}
	return l.Message.Metadata[headerFirstReason]
}

// From returns the queue that the letter died in, or "" if that is not known. It is the one in
// which a handler gave it up, or else the first in which the broker made a dead letter of it.
func (l *Letter) From() string {
	m := l.Message.Metadata
	switch {
	case m[patterns.HeaderQueue] != "":
		return m[patterns.HeaderQueue]
	case m[headerFirstQueue] != "":
		return m[headerFirstQueue]
	}
	if of, ok := strings.CutSuffix(l.Queue, deadSuffix); ok {
		return of
	}
	return ""
}

// DiedAt returns when a handler gave the letter up, or the zero time if the broker did, which does
// not say.
func (l *Letter) DiedAt() time.Time {
	at, err := time.Parse(time.RFC3339Nano, l.Message.Metadata[patterns.HeaderDiedAt])
	if err != nil {
		return time.Time{}
	}
	return at
}

// since returns when the letter died, or else when it was published, or the zero time.
func (l *Letter) since() time.Time {
	if at := l.DiedAt(); !at.IsZero() {
		return at
	}
	return l.Timestamp
}

// Age returns for how long the letter has been dead at the time now; or since when it was
// published, if it does not say when it died; or -1 if it says neither.
func (l *Letter) Age(now time.Time) time.Duration {
	since := l.since()
	if since.IsZero() {
		return -1
	}
	return max(0, now.Sub(since))
}

// Attempts returns how often the letter was tried before it was given up, or 0 if that is not
// known.
func (l *Letter) Attempts() int { return l.count(patterns.HeaderAttempts) }

// Losses returns how often its worker was lost before it was given up.
func (l *Letter) Losses() int { return l.count(patterns.HeaderLosses) }

func (l *Letter) count(header string) int {
	n, err := strconv.Atoi(l.Message.Metadata[header])
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// death says how often the broker made a dead letter of the message, in a queue for a reason.
type death struct {
	queue, reason string
	count         int
}

// deaths returns what x-death says, newest first.
func (l *Letter) deaths() (all []death) {
	text := l.Message.Metadata[headerDeaths]
	if text == "" {
		return nil
	}
	for _, item := range strings.Split(text, ", ") {
		words := strings.Split(item, " ")
		if len(words) < 3 {
			continue
		}
		n, err := strconv.Atoi(words[len(words)-1])
		if err != nil {
			continue
		}
		all = append(all, death{strings.Join(words[:len(words)-2], " "), words[len(words)-2], n})
	}
	return all
}
