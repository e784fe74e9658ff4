package watermill

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// The metadata keys under which a [Driver] lets the routing key and the
// properties of a message travel, those that are set. Receivers of the driver do not see
// them, and publishers must not use them.
const (
	MetadataKey             = "motif-key"
	MetadataContentType     = "motif-content-type"
	MetadataContentEncoding = "motif-content-encoding"
	MetadataType            = "motif-type"
	MetadataAppID           = "motif-app-id"
	MetadataCorrelationID   = "motif-correlation-id"
	MetadataReplyTo         = "motif-reply-to"
	MetadataTimestamp       = "motif-timestamp" // RFC 3339 in UTC, with nanoseconds
	MetadataAttempt         = "motif-attempt"   // decimal; absent for 1
	MetadataTransient       = "motif-transient" // "true"
)

var metadataKeys = [...]string{
	MetadataKey, MetadataContentType, MetadataContentEncoding, MetadataType, MetadataAppID,
	MetadataCorrelationID, MetadataReplyTo, MetadataTimestamp, MetadataAttempt, MetadataTransient,
}

// pack returns a copy of m that the pair may keep, with p in its metadata. ok
// is false if m uses one of the keys itself.
func pack(m *message.Message, p *adapters.Publication, now time.Time) (packed *message.Message, ok bool) {
	packed = message.NewMessage(m.UUID, slices.Clone(m.Payload))
	maps.Copy(packed.Metadata, m.Metadata)
	for _, key := range metadataKeys {
		if _, used := packed.Metadata[key]; used {
			return nil, false
		}
	}
	set := func(key, value string) {
		if value != "" {
			packed.Metadata[key] = value
		}
	}
	set(MetadataKey, p.Key)
	set(MetadataContentType, p.ContentType)
	set(MetadataContentEncoding, p.ContentEncoding)
	set(MetadataType, p.Type)
	set(MetadataAppID, p.AppID)
	set(MetadataCorrelationID, p.CorrelationID)
	set(MetadataReplyTo, p.ReplyTo)
	if !p.Timestamp.IsZero() {
		now = p.Timestamp
	}
	set(MetadataTimestamp, now.UTC().Format(time.RFC3339Nano))
	if p.Attempt > 1 {
		set(MetadataAttempt, strconv.Itoa(p.Attempt))
	}
	if p.Transient {
		set(MetadataTransient, "true")
	}
	return packed, true
}

// unpack returns a copy of m that the receiver may keep, and what pack put
// into it. A value that makes no sense is taken as not set: foreign publishers may
// send anything.
func unpack(m *message.Message) (plain *message.Message, key string, p adapters.Properties) {
	plain = message.NewMessage(m.UUID, slices.Clone(m.Payload))
	maps.Copy(plain.Metadata, m.Metadata)
	take := func(key string) string {
		value := plain.Metadata[key]
		delete(plain.Metadata, key)
		return value
	}
	key = take(MetadataKey)
	p.ContentType = take(MetadataContentType)
	p.ContentEncoding = take(MetadataContentEncoding)
	p.Type = take(MetadataType)
	p.AppID = take(MetadataAppID)
	p.CorrelationID = take(MetadataCorrelationID)
	p.ReplyTo = take(MetadataReplyTo)
	if t, err := time.Parse(time.RFC3339Nano, take(MetadataTimestamp)); err == nil {
		p.Timestamp = t
	}
	attempt, _ := strconv.Atoi(take(MetadataAttempt))
	p.Attempt = max(attempt, 1)
	p.Transient = take(MetadataTransient) == "true"
	return plain, key, p
}
