package amqp

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// What queues count: see decoder.returned.
const (
	headerDeliveries = "x-delivery-count"
	headerAcquired   = "x-acquired-count"
)

// decode decodes the message. It returns the end of its delay, as in headerUntil, or "" for one
// that was not delayed.
func (in *incoming) decode(out *adapters.Delivery) (until string) {
	d := decoder{m: &in.message, out: out}
	out.Redelivered = in.redelivered
	d.read(in.header)
	return d.until
}

// read decodes exchange, routing key and properties.
func (d *decoder) read(text string) {
	f := frame.Reader{S: text}
	exchange, key := f.ShortString(), f.ShortString()
	var p properties
	p.read(&f)
	ttl, exact := expiration(p.expiration)
	d.out.Message = d.m
	d.out.Properties = adapters.Properties{
		ContentType: p.contentType, ContentEncoding: p.contentEncoding, Type: p.kind, AppID: p.appID,
		CorrelationID: p.correlationID, ReplyTo: p.replyTo,
		Attempt: 1, TTL: ttl, Priority: p.priority, Transient: p.deliveryMode != amqp091.Persistent,
	}
	if p.flags&flagTimestamp != 0 {
		d.out.Timestamp = time.Unix(int64(p.timestamp), 0)
	}
	d.foreign = p.isForeign() || !exact
	d.m.UUID = p.messageID
	d.m.Metadata = make(message.Metadata)
	for headers := (frame.Reader{S: p.headers}); len(headers.S) > 0; {
		name, kind := headers.Field()
		if kind == 'S' {
			d.textHeader(name, headers.LongString())
		} else {
			d.typedHeader(name, headers.Value(kind))
		}
	}
	d.finish(exchange, key)
	if d.foreign || d.out.Priority > 0 && (d.delayed || d.out.Priority == p.priority) { // such a priority goes on as it is, whatever the queue
		d.out.Foreign = foreignProperties(text)
	}
}

// decoder decodes the headers of a message. Nothing that somebody else put into them is a reason to
// refuse it.
type decoder struct {
	m       *message.Message
	out     *adapters.Delivery
	key     string // from a header
	deaths  deathHeaders
	resent  bool   // its publisher sent it again, which the queue does not count
	delayed bool   // it was delayed, without a priority
	toQueue bool   // to a queue, over exchanges that are no concern of its receiver
	until   string // see decode
	foreign bool   // it says more than the delivery shows

	// How often the queue has delivered the message before. RabbitMQ 4.3 counts every return in
	// x-acquired-count, and in x-delivery-count those because a connection was lost; earlier
	// versions count every return in x-delivery-count. If the message has not been returned, either
	// may come from a publisher.
	returned int
}

// typedHeader handles a header of any type.
func (d *decoder) typedHeader(name string, value any) {
	switch s, isText := value.(string); {
	case name == headerAcquired, name == headerDeliveries:
		d.returned = max(d.returned, count(value))
	case name == metadataDeaths:
		d.deaths.list, _ = value.([]any)
	case name == headerKey && !isText: // not Motif's
	default:
		if !isText {
			d.foreign = true
			s = text(value)
		}
		d.textHeader(name, s)
	}
}

// textHeader handles a header that is a string, or rendered as one.
func (d *decoder) textHeader(name, text string) {
	if !isReserved(name) { // the usual case
		d.m.Metadata[name] = text
		return
	}
	switch name {
	case headerUntil:
		d.until = text
		d.out.Early = earlyBy(text)
	case headerUUID:
		d.foreign = true // the id may be in this header only
		if d.m.UUID == "" {
			d.m.UUID = text
		}
	case headerAttempt:
		if n, err := strconv.Atoi(text); err == nil && n > 0 {
			d.out.Attempt = n
		}
	case headerResent:
		d.resent = true
	case headerPriority:
		if n, err := strconv.ParseUint(text, 10, 8); err == nil {
			d.out.Priority = uint8(n)
		} else {
			d.foreign = true // it came without a priority
		}
	case headerTTL:
		ttl, exact := expiration(text)
		d.out.TTL, d.foreign = ttl, d.foreign || !exact
	case headerKey:
		d.key = text
	case headerLost:
		if n, err := strconv.Atoi(text); err == nil && n > 0 {
			d.out.Lost = n
		}
	default:
		if key, ok := metadataKey(name); ok {
			d.m.Metadata[key] = text
			d.foreign = d.foreign || escapeKey(key) != name
		} else {
			d.deaths.readHeader(name, text)
			if name == headerTo {
				d.delayed, d.toQueue = true, strings.HasPrefix(text, toQueues)
			}
		}
	}
}

// finish handles what depends on all headers.
func (d *decoder) finish(exchange, key string) {
	if d.isOfDelays(exchange) {
		exchange = ""
	}
	if exchange != "" {
		d.out.Key = key
	}
	if d.out.Redelivered {
		if d.out.Returned = d.returned; d.returned == 0 {
			d.out.Returned = -1 // classic queues do not count
		}
	}
	d.out.Redelivered = d.out.Redelivered || d.resent
	d.addDeathMetadata(exchange)
	if d.out.Key == "" && exchange == "" {
		d.out.Key = d.key
	}
}

// isOfDelays reports whether a message to a queue came over this exchange because it was delayed,
// or found its queue missing then: the routing key is not its Key.
func (d *decoder) isOfDelays(exchange string) bool {
	return d.toQueue && strings.HasPrefix(exchange, ladderPrefix)
}

// count returns the value of a numeric header, or 0 if it is no number or negative.
func count(value any) int {
	n, err := strconv.ParseInt(text(value), 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}

// expiration parses a time to live in milliseconds. One that is no number means no limit. exact is
// false if the time would be formatted differently.
func expiration(s string) (ttl time.Duration, exact bool) {
	if s == "" {
		return 0, true
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "+"), 10, 64)
	if err != nil {
		return 0, false
	}
	const most = uint64(adapters.MaxTTL / time.Millisecond)
	return time.Duration(min(n, most)) * time.Millisecond, n <= most && s[0] > '0'
}

// text formats a header's value, of any type.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case nil:
		return ""
	case bool, int8, uint8, int16, uint16, int32, uint32, int64, uint64, int, float32, float64:
		return fmt.Sprint(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339)
	case amqp091.Decimal:
		return decimal(v)
	}
	rendered, err := json.Marshal(plainValue(value))
	if err != nil { // not a number, or infinite
		return fmt.Sprint(value)
	}
	return string(rendered)
}

// plainValue replaces what JSON would format differently from text.
func plainValue(value any) any {
	switch v := value.(type) {
	case amqp091.Table:
		object := make(map[string]any, len(v))
		for name, field := range v {
			object[name] = plainValue(field)
		}
		return object
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = plainValue(item)
		}
		return list
	case []byte, time.Time, amqp091.Decimal:
		return text(v)
	}
	return value
}

// decimal formats a decimal exactly, where a float would round.
func decimal(v amqp091.Decimal) string {
	digits, sign := strconv.FormatInt(int64(v.Value), 10), ""
	if strings.HasPrefix(digits, "-") {
		digits, sign = digits[1:], "-"
	}
	scale := int(v.Scale)
	if scale == 0 {
		return sign + digits
	}
	if missing := scale + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	return sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
}
