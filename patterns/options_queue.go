package patterns

import (
	"time"

	"github.com/motifmq/motif/adapters"
)

// MaxLength bounds how many messages wait in the queue. When it is full a
// publish fails with ErrNacked (see [WaitForRoom]), unless [DropOldest] is given too.
// A message whose [Delay] or wait for the next attempt ends then waits for room.
func MaxLength(n int) QueueOption {
	return QueueOption{func(c *queueConfig) error { return atLeast1("MaxLength", n, &c.spec.MaxLength) }}
}

// DropOldest makes a full queue give its oldest message to the dead letters,
// rather than refuse the new one.
func DropOldest() QueueOption {
	return QueueOption{func(c *queueConfig) error { return setOnce("DropOldest", &c.spec.Overflow, adapters.DropHead) }}
}

// MessageTTL sends every message that was not delivered within d to the dead
// letters.
func MessageTTL(d time.Duration) QueueOption {
	return QueueOption{func(c *queueConfig) error { return positive("MessageTTL", d, &c.spec.MessageTTL) }}
}

// MaxPriority makes the queue deliver higher priorities first, up to p. From RabbitMQ 4.3
// on it is a replicated queue like others, if p is at most 31.
func MaxPriority(p uint8) QueueOption {
	return QueueOption{func(c *queueConfig) error {
		if p == 0 {
			return invalid("MaxPriority of 0")
		}
		return setOnce("MaxPriority", &c.spec.MaxPriority, p)
	}}
}

// DeadLetter names the dead-letter queue. Without it, it is the queue's name
// and ".dead".
func DeadLetter(queue string) QueueOption {
	return QueueOption{func(c *queueConfig) error {
		if queue == "" {
			return invalid("empty dead-letter queue")
		}
		return setOnce("DeadLetter", &c.deadLetter, queue)
	}}
}

// NoDeadLetter drops messages that are given up: they are logged, and passed to
// [OnDrop].
func NoDeadLetter() QueueOption {
	return QueueOption{func(c *queueConfig) error { return setOnce("NoDeadLetter", &c.noDeadLetter, true) }}
}

// Passive uses the queue as it stands, declared by somebody else with properties of theirs; it is
// ErrNotFound if it is missing. What is given up is rejected, and goes where that queue's own
// dead-letter setting says, unless its name ends in ".dead": then it stays. Given to [RPC.Serve],
// requests come from such a queue.
func Passive() PassiveOption { return PassiveOption{} }
