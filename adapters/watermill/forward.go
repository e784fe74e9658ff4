package watermill

import (
	"cmp"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// arrival is a message as it came.
type arrival struct {
	Delivery
	uuid    string
	payload []byte
}

// arrivalOf returns what m is a forwarded message of, or nil: it has to be the one that was
// received, or a copy, with the payload untouched.
func arrivalOf(m *message.Message) *arrival {
	came, ok := m.Context().Value(deliveryKey{}).(*arrival)
	if !ok || m.UUID != came.uuid || len(m.Payload) != len(came.payload) || len(m.Payload) > 0 && &m.Payload[0] != &came.payload[0] {
		return nil
	}
	return came
}

// forwarding is p for a message that goes on with what it came with, as far as p does not say
// otherwise, and an adapter with such features can.
func (came *arrival) forwarding(p adapters.Publication, can adapters.Ability) adapters.Publication {
	was := came.Properties
	p.ContentType = cmp.Or(p.ContentType, was.ContentType)
	p.ContentEncoding = cmp.Or(p.ContentEncoding, was.ContentEncoding)
	p.Type, p.AppID = cmp.Or(p.Type, was.Type), cmp.Or(p.AppID, was.AppID)
	p.CorrelationID, p.ReplyTo = cmp.Or(p.CorrelationID, was.CorrelationID), cmp.Or(p.ReplyTo, was.ReplyTo)
	p.Transient = p.Transient || was.Transient
	if p.Timestamp.IsZero() {
		p.Timestamp = was.Timestamp
	}
	if can.Has(adapters.CanExpire) {
		p.TTL = cmp.Or(p.TTL, was.TTL)
	}
	if can.Has(adapters.CanPrioritize) {
		p.Priority = cmp.Or(p.Priority, was.Priority)
	}
	if p.Foreign == nil {
		p.Foreign = was.Foreign
	}
	if p.To.Kind == adapters.Queue {
		p.Key = cmp.Or(p.Key, came.Key)
	}
	return p
}
