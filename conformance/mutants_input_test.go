package conformance

import (
	"context"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var inputMutants = []mutant{
	{"does not tell capitals from small letters in the names of queues", "input/names", renaming(strings.ToLower)},
	{"trims the names of queues", "input/names", renaming(strings.TrimSpace)},
	{"takes names of two lines", "input/names", renaming(func(name string) string { return strings.ReplaceAll(name, "\n", " ") })},
	{"trims the keys of messages", "input/keys", receiving(func(d *adapters.Delivery) { d.Key = strings.TrimSpace(d.Key) })},
	{"cuts correlation ids at a NUL, as C does", "input/keys", changing(func(p *adapters.Publication) {
		for _, s := range []*string{&p.Key, &p.ContentType, &p.ContentEncoding, &p.Type, &p.AppID, &p.CorrelationID, &p.ReplyTo} {
			*s, _, _ = strings.Cut(*s, "\x00")
		}
	})},
	{"mends text that is not UTF-8", "input/ids-and-metadata", receiving(func(d *adapters.Delivery) {
		for name, value := range d.Message.Metadata {
			d.Message.Metadata[name] = strings.ToValidUTF8(value, "\ufffd")
		}
	})},
	{"makes the names of metadata canonical", "input/ids-and-metadata", receiving(func(d *adapters.Delivery) {
		for name, value := range d.Message.Metadata {
			delete(d.Message.Metadata, name)
			d.Message.Metadata[strings.ToLower(name)] = value
		}
	})},
	{"cuts long ids and names", "input/ids-and-metadata", rewriting(func(_ adapters.Publication, m *message.Message) {
		m.UUID = m.UUID[:min(len(m.UUID), adapters.MaxNameBytes)]
		for name, value := range m.Metadata {
			delete(m.Metadata, name)
			m.Metadata[name[:min(len(name), adapters.MaxNameBytes)]] = value
		}
	})},
	{"ends a payload at a NUL", "input/payloads", receiving(func(d *adapters.Delivery) {
		payload, _, _ := strings.Cut(string(d.Message.Payload), "\x00")
		d.Message.Payload = []byte(payload)
	})},
	{"loses messages without a payload", "input/payloads", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if len(msgs) == 1 && len(msgs[0].Payload) == 0 {
				return nil
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"cuts payloads", "input/payloads", receiving(func(d *adapters.Delivery) {
		d.Message.Payload = d.Message.Payload[:min(len(d.Message.Payload), 64<<10)]
	})},
	{"keeps some of much metadata", "input/much-metadata", rewriting(func(_ adapters.Publication, m *message.Message) {
		for name := range m.Metadata {
			if len(m.Metadata) > 100 {
				delete(m.Metadata, name)
			}
		}
	})},
	{"takes more metadata than others do", "input/much-metadata", rewriting(func(_ adapters.Publication, m *message.Message) {
		if adapters.ValidateMessage(m) != nil && len(m.Metadata) == 1 && len(m.UUID) <= adapters.MaxNameBytes {
			m.Metadata["name-0"] = m.Metadata["name-0"][:min(len(m.Metadata["name-0"]), adapters.MaxMetadataBytes-len("name-0"))]
		}
	})},
	{"sends copies to where metadata says", "input/metadata-does-nothing", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			for _, msg := range msgs {
				if cc := msg.Metadata["CC"]; cc != "" {
					_ = publish(ctx, adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: cc}}, msg)
				}
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"reads attempts from the metadata of whoever sends", "input/metadata-does-nothing", receiving(func(d *adapters.Delivery) {
		if d.Message.Metadata["motif-attempt"] == "9" {
			d.Attempt = 9
		}
	})},
	{"takes metadata out that looks like its own", "input/metadata-does-nothing", receiving(func(d *adapters.Delivery) { delete(d.Message.Metadata, "x-death") })},
	{"takes metadata for the time to live", "input/metadata-does-nothing", receiving(func(d *adapters.Delivery) {
		if d.Message.Metadata["expiration"] != "" {
			d.TTL = 1
		}
	})},
	{"makes queues whose names belong to the broker", "input/reserved-names", sourcing(func(s *adapters.Source) {
		if s.Kind == adapters.Queue {
			s.Name = strings.TrimPrefix(s.Name, "amq.")
		}
	})},
	{"makes dead-letter queues whose names belong to the broker", "input/reserved-names", specifying(func(q *adapters.QueueSpec) {
		q.DeadLetter = strings.TrimPrefix(q.DeadLetter, "amq.")
	})},
	{"takes a negative length for none", "input/sources", specifying(func(q *adapters.QueueSpec) { q.MaxLength = max(q.MaxLength, 0) })},
	{"takes no notice of keys where there is nothing to bind", "input/sources", sourcing(func(s *adapters.Source) {
		if !s.Kind.UsesKeys() {
			s.Keys = nil
		}
	})},
	{"takes a prefetch of 0 for as many as possible", "input/prefetch", sourcing(func(s *adapters.Source) {
		if s.Prefetch == 0 {
			s.Prefetch = 65535
		}
	})},
	{"cuts a prefetch to 16 bits", "input/prefetch", sourcing(func(s *adapters.Source) { s.Prefetch = int(uint16(s.Prefetch)) })},
	{"takes an unknown kind for a queue", "input/unknown-kinds", both(
		sourcing(func(s *adapters.Source) { s.Endpoint = known(s.Endpoint) }),
		changing(func(p *adapters.Publication) { p.To = known(p.To) }),
	)},
}

func known(e adapters.Endpoint) adapters.Endpoint {
	if e.Kind > adapters.Reply {
		e.Kind = adapters.Queue
	}
	return e
}

// renaming uses other names for queues.
func renaming(change func(string) string) func(*mutated) {
	return both(
		sourcing(func(s *adapters.Source) { s.Name = change(s.Name) }),
		changing(func(p *adapters.Publication) { p.To.Name = change(p.To.Name) }),
	)
}
