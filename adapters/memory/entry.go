package memory

import (
	"bytes"
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// record is the broker's own copy of a published message. It is never
// modified, so that all copies of a message share its payload and metadata.
type record struct {
	uuid     string
	payload  []byte
	metadata map[string]string
	key      string
	props    adapters.Properties
	deaths   []death // newest first
}

func newRecord(p *adapters.Publication, m *message.Message) record {
	r := record{uuid: m.UUID, payload: bytes.Clone(m.Payload), key: p.Key, props: p.Properties}
	if len(m.Metadata) > 0 {
		r.metadata = maps.Clone(m.Metadata)
	}
	if r.props.Timestamp.IsZero() {
		r.props.Timestamp = time.Now().Round(0)
	}
	if r.props.Attempt == 0 {
		r.props.Attempt = 1
	}
	return r
}

// entry is a message in one queue, under the lock of the queue; only its
// record may be read without.
type entry struct {
	record

	prev, next *entry
	seq        uint64        // its place in the queue, for life
	expires    time.Duration // on the broker's clock; 0 = never
	consumer   *consumer     // who holds it; nil = it is ready
	deliveries uint32        // tells a late settle of an earlier delivery from one of this
	priority   uint8         // as the queue has it
}

func (e *entry) before(o *entry) bool { return e.seq < o.seq }
