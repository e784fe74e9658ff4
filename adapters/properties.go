package adapters

import (
	"time"
)

// Properties is what travels beside a message, and can be given to Publish
// again as it was received. The zero value is a plain durable message, to be
// tried for the first time.
type Properties struct {
	ContentType     string // media type of the payload
	ContentEncoding string // how the payload is encoded beyond that, as "gzip"; "" = it is not

	Type  string // what kind of message it is, in its publisher's words
	AppID string // the program that published it, by its own account

	CorrelationID string // ties a reply to its call; at most 255 bytes
	ReplyTo       string // where to send the reply: the Address of a Reply subscription, or from a ReplyReceiver

	// Timestamp is when the message was published. On Publish, zero means
	// now. An adapter keeps it to the second at least.
	Timestamp time.Time

	// Attempt counts the attempts to handle this message, this one included.
	// Only a publisher sets it, when it sends a message again: an adapter
	// carries it unchanged and never counts by itself. 0 is delivered as 1.
	Attempt int

	// Lost counts the earlier deliveries that ended with no outcome, because the session of
	// whoever had the message was lost or the broker took it back (ErrConsumerTimeout). Like
	// Attempt it is set by a publisher that sends a message again, and carried unchanged: what
	// the broker has counted since then is Delivery.Returned.
	Lost int

	TTL       time.Duration // not delivered after, counted from routing; 0 = no limit. Needs CanExpire.
	Transient bool          // may be lost in a broker restart, and may be faster for it

	// Priority has the message overtake those of lower priority in queues with a MaxPriority; a
	// message that has waited for its Delay overtakes none. A queue without a MaxPriority keeps the
	// order of what is published to it. Through an exchange that holds only for messages without a
	// priority: in what order a group without a MaxPriority gets others is up to the broker. The
	// receiver is told the Priority as it was given, in any case. Needs CanPrioritize if not 0.
	Priority uint8

	// Foreign is whatever else the message came with, if another kind of client published it. Only
	// the adapter that delivered the message reads it; others carry or ignore it. Published with
	// it, the message goes on as it came in all that these fields and its metadata do not change:
	// its own properties, types of headers, no Timestamp where there was none. It is nil for what
	// an adapter published.
	Foreign any
}

func (p *Properties) validate() error {
	if err := p.check("content type", p.ContentType); err != nil {
		return err
	}
	if err := p.check("content encoding", p.ContentEncoding); err != nil {
		return err
	}
	if err := p.check("type", p.Type); err != nil {
		return err
	}
	if err := p.check("app id", p.AppID); err != nil {
		return err
	}
	if err := p.check("correlation id", p.CorrelationID); err != nil {
		return err
	}
	return p.check("reply address", p.ReplyTo)
}

func (p *Properties) check(what, value string) error {
	if value == "" || p.Foreign != nil && len(value) <= MaxNameBytes { // as the broker had it
		return nil
	}
	return checkText(what, value, MaxNameBytes)
}
