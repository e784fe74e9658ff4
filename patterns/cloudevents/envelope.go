package cloudevents

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// Binary has a queue or an exchange send events in binary mode: the payload is the data, and the
// attributes are headers that begin with [PrefixAMQP]. Source is the source of all events that do
// not say theirs; it may be "" if all do, or none are sent. It is a URI reference, such as /shop or
// https://example.com/shop.
func Binary(source string) patterns.EnvelopeOption { return BinaryPrefix(PrefixAMQP, source) }

// BinaryPrefix is [Binary] with one of the other prefixes, for receivers that know no other.
func BinaryPrefix(prefix, source string) patterns.EnvelopeOption {
	return patterns.WithEnvelope(envelope{prefix: prefix, source: source})
}

// Structured has a queue or an exchange send events in structured mode: the payload is JSON that
// has attributes and data, of type application/cloudevents+json. Data that is not JSON, nor text
// in UTF-8, is in base64. Source is as for [Binary].
func Structured(source string) patterns.EnvelopeOption {
	return patterns.WithEnvelope(envelope{source: source})
}

// envelope is how events travel.
type envelope struct {
	prefix string // of headers; "" in structured mode
	source string
}

// Validate implements what [patterns.Envelope] may have.
func (e envelope) Validate() error {
	switch e.prefix {
	case "", PrefixAMQP, PrefixJMS, PrefixRabbitMQ:
	default:
		return fmt.Errorf("%w: cloudevents: prefix %q", adapters.ErrInvalid, clip(e.prefix))
	}
	if _, err := url.Parse(e.source); err != nil {
		return fmt.Errorf("%w: cloudevents: source %q is no URI reference", adapters.ErrInvalid, clip(e.source))
	}
	return nil
}

// Wrap implements [patterns.Envelope].
func (e envelope) Wrap(c *patterns.Content, v any, encode func(v any) error) error {
	a, err := attributesOf(c.Headers, "", true)
	if err != nil {
		return err
	}
	own := Attributes{}
	if ev, ok := v.(event); ok {
		own, v = ev.parts()
	}
	if err := encode(v); err != nil {
		return err
	}
	if own.Type != "" && c.Type != "" && own.Type != c.Type {
		return fmt.Errorf("%w: cloudevents: an event of type %q in a message of type %q", adapters.ErrInvalid, clip(own.Type), clip(c.Type))
	}
	own.Type = orElse(own.Type, c.Type)
	a = own.over(a)
	a.ID, a.Source, a.DataContentType = orElse(a.ID, c.ID), orElse(a.Source, e.source), c.ContentType
	if a.Time.IsZero() {
		a.Time = time.Now()
	}
	if err := a.checkSent(); err != nil {
		return fmt.Errorf("%w: %w", adapters.ErrInvalid, err)
	}
	c.ID, c.Type = a.ID, a.Type
	if e.prefix == "" {
		c.Payload, err = formatJSON(a, c.Payload)
		c.ContentType = jsonFormat + "; charset=utf-8"
		return err
	}
	a.put(c.Headers, e.prefix)
	return nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (a Attributes) put(headers map[string]string, prefix string) {
	for name, value := range a.all() {
		headers[prefix+name] = value
	}
}

// Unwrap implements [patterns.Envelope].
func (envelope) Unwrap(c *patterns.Content, v any, decode func(v any) error) error {
	a, hasData, err := unwrap(c)
	if err != nil {
		return err
	}
	if c.Type = a.Type; c.ID == "" {
		c.ID = a.ID
	}
	a.put(c.Headers, PrefixAMQP)
	if t, ok := v.(target); ok {
		if v = t.fill(a); !hasData {
			return nil
		}
	}
	return decode(v)
}

// unwrap takes the event's attributes out of c, and makes the data its payload.
func unwrap(c *patterns.Content) (a Attributes, hasData bool, err error) {
	switch mediaType := mediaTypeOf(c.ContentType); {
	case !isStructured(c.ContentType):
		if a, err = attributesOf(c.Headers, c.ContentType, false); err != nil {
			return a, false, err
		}
		hasData = len(c.Payload) > 0
	case mediaType == jsonFormat:
		if a, hasData, err = parseJSON(c); err != nil {
			return a, false, err
		}
		for key := range c.Headers { // a copy, if anything
			if name, ok := cutPrefix(key); ok && isName(name) {
				delete(c.Headers, key)
			}
		}
	case strings.HasPrefix(mediaType, "application/cloudevents-batch"):
		return a, false, fmt.Errorf("cloudevents: the batched format, %s, is not taken: a message is one event", clip(mediaType))
	default:
		return a, false, fmt.Errorf("cloudevents: event format %s, only %s is known", clip(mediaType), jsonFormat)
	}
	return a, hasData, a.check()
}

// isStructured reports whether a content type is that of a whole event.
func isStructured(contentType string) bool {
	return strings.HasPrefix(mediaTypeOf(contentType), "application/cloudevents")
}

// mediaTypeOf returns a content type without its parameters, in lower case.
func mediaTypeOf(contentType string) string {
	mediaType, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(mediaType))
}
