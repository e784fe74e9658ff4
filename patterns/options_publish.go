package patterns

import (
	"time"

	"github.com/motifmq/motif/adapters"
)

// Header gives the message a header. Keys that begin with "motif-" are
// reserved.
func Header(key, value string) HeaderOption { return HeaderOption{key, value} }

// Delay keeps the message waiting at the broker for d, 30 days at most on our adapters.
func Delay(d time.Duration) PublishOption {
	return publishOption(func(c *publishConfig) error { return positive("Delay", d, &c.p.Delay) })
}

// TTL drops the message (to the dead letters, where the queue has them) if
// it was not delivered within d. On RabbitMQ, and in the process, it no longer counts
// once the message has waited for its [Delay] or its next attempt: RabbitMQ cannot
// restore it. [MessageTTL] and [MaxAge] count then, too.
func TTL(d time.Duration) PublishOption {
	return publishOption(func(c *publishConfig) error { return positive("TTL", d, &c.p.TTL) })
}

// Priority lets the message overtake those of lower priority, in a queue with [MaxPriority]; one
// that waited for its [Delay] or its next attempt overtakes none. A work queue without MaxPriority
// refuses it, unless the queue is [Passive]. Through an exchange it is for groups with a
// MaxPriority; what RabbitMQ makes of it in the queues of other groups depends on its version.
func Priority(p uint8) PublishOption {
	return publishOption(func(c *publishConfig) error {
		c.p.Priority = p
		return setOnce("Priority", &c.prioritized, true)
	})
}

// Type says what kind of message it is, for receivers that tell messages apart by that: AMQP's
// property type, at most 255 bytes. Motif itself looks at it where a queue has [Types], which set
// it.
func Type(name string) PublishOption {
	return publishOption(func(c *publishConfig) error { return setOnce("Type", &c.p.Type, name) })
}

// AppID says which program published the message: AMQP's property app_id, at most 255 bytes.
func AppID(id string) PublishOption {
	return publishOption(func(c *publishConfig) error { return setOnce("AppID", &c.p.AppID, id) })
}

// Transient lets the broker keep the message in memory only: it may be lost
// when the broker restarts.
func Transient() PublishOption {
	return publishOption(func(c *publishConfig) error { return setOnce("Transient", &c.p.Transient, true) })
}

// Mandatory makes it an error, ErrUnroutable, if the message reaches no
// queue. A work queue's messages always are, unless delayed.
func Mandatory() PublishOption {
	return publishOption(func(c *publishConfig) error { return setOnce("Mandatory", &c.p.Mandatory, true) })
}

// MessageID sets the message's id, for receivers that recognise repeats by it.
// Without it the id is random. It is not for batches.
func MessageID(id string) PublishOption {
	return publishOption(func(c *publishConfig) error {
		if id == "" || len(id) > adapters.MaxNameBytes {
			return invalid("message id of %d bytes", len(id))
		}
		return setOnce("MessageID", &c.id, id)
	})
}

// UniqueFor has others with the same [MessageID] dropped for d after this message was sent (49 days
// at most): what is sent to the same queue or exchange with UniqueFor, too. Their senders get no
// error. It does not matter whether this message has been handled by then. A message without a
// MessageID is refused, and so is UniqueFor where the broker does not know what was sent
// (adapters.CanUnique), as RabbitMQ. There, middleware.Once skips the second of two messages with
// one id when it is handled.
func UniqueFor(d time.Duration) PublishOption {
	return publishOption(func(c *publishConfig) error { return positive("UniqueFor", d, &c.p.UniqueFor) })
}

// WaitForRoom makes a send to a full queue wait for room, as long as ctx allows, instead of failing
// with ErrNacked. It polls, so senders that wait get in in no particular order. It is for a single
// blocking send to a work queue: an exchange would copy each attempt to the queues that have room,
// and a queue without [MaxLength] never refuses.
func WaitForRoom() PublishOption {
	return publishOption(func(c *publishConfig) error { return setOnce("WaitForRoom", &c.waitForRoom, true) })
}
