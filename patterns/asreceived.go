package patterns

import (
	"maps"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// AsReceived sends a message on with what d was received with: its id, headers, time, type, app id,
// priority and time to live; its key, where it goes to a queue; and, if it came from a
// program without Motif, all that its client gave it, in the types that it had there. That is how a
// dead letter is sent back, or a message moved to another queue:
//
//	err := orders.Send(ctx, letter.Value, patterns.AsReceived(letter.Delivery))
//
// A [Raw] is sent unchanged, with the content type and encoding that it has. Any other value is
// encoded anew. What a message gathered in its queue is left behind: its attempts, and why it
// became a dead letter ([HeaderReason] and the like).
//
// Other options win over d, and changes to d over what was received. It is not for batches.
func AsReceived(d Delivery) PublishOption {
	return publishOption(func(c *publishConfig) error { return setOnce("AsReceived", &c.received, &d) })
}

// applyReceived takes over what c.received says and no option does.
func (c *publishConfig) applyReceived() {
	d, set := c.received, c.p.Properties
	p := &c.p.Properties
	if d.from != nil {
		*p = d.from.Properties
	}
	p.Attempt, p.Lost = 0, 0
	p.Timestamp, p.Priority, p.Type, p.AppID = d.PublishedAt, d.Priority, d.Type, d.AppID
	if set.TTL > 0 {
		p.TTL = set.TTL
	}
	if c.prioritized {
		p.Priority = set.Priority
	}
	if set.Type != "" {
		p.Type = set.Type
	}
	if set.AppID != "" {
		p.AppID = set.AppID
	}
	p.Transient = p.Transient || set.Transient
	p.ContentType, p.ContentEncoding = set.ContentType, set.ContentEncoding
	if c.p.To.Kind == adapters.Queue {
		c.p.Key = d.Key
	}
	if c.id == "" {
		c.id = d.ID
	}
	headers := maps.Clone(d.Headers)
	if headers == nil {
		headers = make(map[string]string)
	}
	if headers[HeaderQueue] != "" || headers["x-first-death-queue"] != "" { // it is a dead letter
		noteSentBack(headers, d.PublishedAt)
	}
	for _, name := range historyHeaders {
		delete(headers, name)
	}
	maps.Copy(headers, c.headers)
	c.headers = headers
}

// encodeReceived makes the message for a value that is sent as it was received, with no id if it
// had none.
func encodeReceived(cfg *publishConfig, v any) (*message.Message, error) {
	raw, isRaw := v.(Raw)
	payload, err := []byte(raw), checkSize(raw, cfg.codecs.maxBody)
	if isRaw {
		cfg.p.ContentType, cfg.p.ContentEncoding = cfg.received.ContentType, cfg.received.ContentEncoding
	} else {
		payload, err = cfg.codecs.marshal(v)
	}
	if err != nil {
		return nil, err
	}
	return &message.Message{UUID: cfg.id, Payload: payload, Metadata: cfg.headers}, nil
}

// historyHeaders tell what happened to a message in its queues.
var historyHeaders = []string{
	HeaderReason, HeaderAttempts, HeaderLosses, HeaderQueue, HeaderDiedAt, HeaderRepair, HeaderNotBefore,
	"x-death", "x-first-death-queue", "x-first-death-reason", // as adapters say what the broker knows
}

// resetAttempts forgets the attempts and losses that were counted before the broker made a dead
// letter of the message: whoever brought it back, or handles it as one, wants all attempts again.
func resetAttempts(d *adapters.Delivery) {
	if d.Died {
		d.Attempt, d.Lost = 1, 0
	}
}
