package memory

import (
	"maps"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// record is the broker's own copy of a published message. It is not modified
// once it is in a queue, so that copies of a message share payload and metadata.
type record struct {
	uuid     string
	payload  []byte
	metadata map[string]string
	key      string
	props    adapters.Properties
	deaths   []death // newest first
	lasting  bool    // its TTL does not count: it is Lasting, or was delayed
	priority uint8   // the one that RabbitMQ would be told; props have what the publisher said
}

// set makes r the record of m, with payload as its copy of m's.
func (r *record) set(p *adapters.Publication, priority uint8, m *message.Message, payload []byte, c *clock) {
	// RabbitMQ cannot restore the TTL of a message that was delayed.
	lasting := p.Lasting || p.Delay > 0
	*r = record{uuid: m.UUID, payload: payload, key: p.Key, props: p.Properties, priority: priority, lasting: lasting}
	if len(m.Metadata) > 0 {
		r.metadata = maps.Clone(m.Metadata)
	}
	if r.props.Timestamp.IsZero() {
		r.props.Timestamp = c.time()
	}
	if r.props.Attempt == 0 {
		r.props.Attempt = 1
	}
}

// ttl returns the message's own time to live, as far as it counts.
func (r *record) ttl() time.Duration {
	if r.lasting {
		return 0
	}
	return r.props.TTL
}

// entry is a message in one queue, guarded by the queue's lock; only its record may be read
// without.
type entry struct {
	record

	prev, next       *entry
	seq              uint64        // its place in the queue, for life
	expires          time.Duration // on the broker's clock; 0 = never
	consumer         *consumer     // who holds it; nil = it is ready
	level            uint8         // by its priority, in the queue
	redelivered      bool          // it was given back at least once, or counts as such
	returnCount      int           // how often it was given back
	heldSince        time.Duration // when it was first seen to be held; 0 = not yet, see checkTimeouts
	failedDeliveries int           // how many of its deliveries RabbitMQ counts as failed, also in the queue where it died
	ownsPayload      bool          // no other entry has the payload
}

func (e *entry) before(o *entry) bool { return e.seq < o.seq }

// entries is a free list. Most messages are acknowledged as soon as they are received, and reusing
// their entries and payloads saves half of the memory that a message takes on its way.
type entries struct {
	pool sync.Pool
}

func (p *entries) get() *entry {
	if e, ok := p.pool.Get().(*entry); ok {
		return e
	}
	return new(entry)
}

// put takes back an entry whose receiver has acknowledged it. Earlier receivers may still be
// looking at it.
func (p *entries) put(e *entry) {
	const keep = 4096
	if e.redelivered || e.returnCount > 0 {
		return
	}
	if e.ownsPayload && cap(e.payload) <= keep {
		e.payload = e.payload[:0]
	} else {
		e.payload = nil
	}
	e.ownsPayload, e.expires = false, 0
	p.pool.Put(e)
}
