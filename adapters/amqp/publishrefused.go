package amqp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// errNotStored is wrapped by the error of a publish that the broker certainly did not store, and
// that may be sent again.
var errNotStored = errors.New("not taken")

// refusal says which of the pending publishes the broker closed their channel for. A channel
// processes them in order, and none after the one that it refuses: those behind it are certainly
// not stored. Those before it are on their way to queues, and may be.
type refusal struct {
	first, last uint64 // the tags of those that it may have been for
	err         error  // the error of that one, if there is only one
}

// findRefused finds out which publish the channel was closed for, or returns nil if it was for
// none. pc.mu is held.
func (pc *publishChannel) findRefused(why error) *refusal {
	var c *frame.CloseError
	if !errors.As(why, &c) || !c.Channel || c.Err.Code == amqp091.ResourceError { // a fault of the broker's, for whichever
		return nil
	}
	r := pc.candidates(func(pub *pendingPublish) bool { return isAbout(c.Err, pub) })
	if r == nil { // the broker does not say, or cuts the name short
		r = pc.candidates(func(*pendingPublish) bool { return true })
	}
	if r == nil {
		return nil
	}
	limit := sizeLimit(c.Err)
	if r.first == r.last || limit > 0 { // each that is too large would have been refused, so it was the first
		r.last = r.first
		r.err = pc.refusalError(c, pc.at(r.first))
	}
	pc.conn.refusals.add(c.Err, limit, pc.at(r.first), r.err != nil)
	return r
}

// candidates returns the first and the last pending publish for which is returns true, or nil if
// there is none.
func (pc *publishChannel) candidates(is func(*pendingPublish) bool) (r *refusal) {
	for tag := pc.oldest; tag < pc.next; tag++ {
		if pub := pc.at(tag); pub.done != nil && is(pub) {
			if r == nil {
				r = &refusal{first: tag}
			}
			r.last = tag
		}
	}
	return r
}

// errorOf returns the error of the publish with this tag.
func (r *refusal) errorOf(tag uint64, why error) error {
	switch {
	case r != nil && tag > r.last:
		return fmt.Errorf("amqp: %w: %w: the channel was closed for another message: %w", adapters.ErrUnavailable, errNotStored, why)
	case r != nil && tag == r.first && r.err != nil:
		return r.err
	}
	if e, ok := errors.AsType[*amqp091.Error](why); ok && isQueueGone(e) {
		return fmt.Errorf("amqp: %w: %w: %w", adapters.ErrUnconfirmed, errQueueGone, why)
	}
	return fmt.Errorf("amqp: %w: %w", adapters.ErrUnconfirmed, why)
}

// refusalError returns the error of the publish that the channel was closed for.
func (pc *publishChannel) refusalError(c *frame.CloseError, pub *pendingPublish) error {
	pc.conn.mu.Lock()
	withheld := pc.conn.undeclarable[pub.exchange]
	pc.conn.mu.Unlock()
	switch {
	case sizeLimit(c.Err) > 0:
		return fmt.Errorf("amqp: %w: %w", adapters.ErrTooLarge, c)
	case c.Err.Code == amqp091.AccessRefused:
		return fmt.Errorf("amqp: %w: %w", adapters.ErrAccess, c)
	case c.Err.Code == amqp091.NotFound && withheld != nil:
		return fmt.Errorf("amqp: %w: %w, and it may not be declared: %w", adapters.ErrAccess, c, withheld)
	case c.Err.Code == amqp091.NotFound: // the exchange was deleted, and will be declared again
		return fmt.Errorf("amqp: %w: %w: %w", adapters.ErrNotFound, errNotStored, c)
	}
	return fmt.Errorf("amqp: %w: %w", adapters.ErrInvalid, c)
}

// isAbout reports whether e may be about a pending publish.
func isAbout(e *amqp091.Error, pub *pendingPublish) bool {
	if limit := sizeLimit(e); limit > 0 {
		return pub.size > limit
	}
	if key, ok := refusedTopic(e); ok && key != pub.key {
		return false
	}
	name := pub.exchange
	if name == "" {
		name = "amq.default"
	}
	return strings.Contains(e.Reason, "exchange '"+name+"'")
}

// sizeLimit returns the largest payload that the broker takes, if it says so in e, or 0.
func sizeLimit(e *amqp091.Error) int {
	const before = "max size "
	at := strings.LastIndex(e.Reason, before)
	if e.Code != amqp091.PreconditionFailed || at < 0 || !strings.Contains(e.Reason, "message size ") {
		return 0
	}
	digits := e.Reason[at+len(before):]
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	limit, _ := strconv.Atoi(digits) // 0 if it is no number
	return limit
}

// refusedTopic returns the routing key with which the user may not write to a topic exchange, if e
// says so.
func refusedTopic(e *amqp091.Error) (key string, ok bool) {
	if e.Code != amqp091.AccessRefused {
		return "", false
	}
	_, key, ok = strings.Cut(e.Reason, "access to topic '")
	if end := strings.LastIndex(key, "' in exchange '"); ok && end >= 0 {
		return key[:end], true
	}
	return "", false
}

// refusals are what the broker has refused on a connection, and would refuse again, each time by
// closing a channel.
type refusals struct {
	nonEmpty atomic.Bool

	mu      sync.Mutex
	maxBody int                        // bytes of a payload; 0 if no limit is known
	denied  map[accessKey]deniedAccess // the right to write
}

// accessKey is an exchange, or an exchange and a routing key.
type accessKey struct {
	exchange string
	topic    bool
	key      string
}

type deniedAccess struct {
	err   error
	until time.Time
}

// deniedFor is how long the broker is not asked again for a right that it refused: an operator may
// grant it.
const deniedFor = 10 * time.Second

func (r *refusals) add(e *amqp091.Error, limit int, pub *pendingPublish, certain bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case limit > 0:
		r.maxBody = limit
	case e.Code == amqp091.AccessRefused && (certain || isAbout(e, pub)):
		at := accessKey{exchange: pub.exchange}
		if _, ok := refusedTopic(e); ok {
			at = accessKey{pub.exchange, true, pub.key}
		}
		if r.denied == nil || len(r.denied) >= maxKnown {
			r.denied = make(map[accessKey]deniedAccess)
		}
		r.denied[at] = deniedAccess{fmt.Errorf("amqp: %w: %w", adapters.ErrAccess, e), time.Now().Add(deniedFor)}
	default:
		return
	}
	r.nonEmpty.Store(true)
}

// check returns the error with which the broker would refuse o, or nil.
func (r *refusals) check(o *outgoing) error {
	if !r.nonEmpty.Load() { // the usual case
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if size := len(o.message.Payload); r.maxBody > 0 && size > r.maxBody {
		return fmt.Errorf("amqp: %w: payload of %d bytes, the broker takes %d", adapters.ErrTooLarge, size, r.maxBody)
	}
	for _, at := range []accessKey{{exchange: o.exchange}, {o.exchange, true, o.key}} {
		if w, ok := r.denied[at]; ok && time.Now().Before(w.until) {
			return w.err
		}
	}
	return nil
}
