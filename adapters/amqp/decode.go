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
)

// What a dead letter tells in its metadata, as in package memory.
const (
	metadataDeaths           = "x-death" // newest first: "orders rejected 2, retry expired 1"
	metadataFirstDeathReason = "x-first-death-reason"
	metadataFirstDeathQueue  = "x-first-death-queue"
)

// decode fills in what was received, all but the Settler. Nothing that
// somebody else put into a header is a reason to refuse a message.
func decode(d *amqp091.Delivery, m *message.Message, out *adapters.Delivery) {
	m.UUID, m.Payload = d.MessageId, d.Body
	m.Metadata = make(message.Metadata, len(d.Headers))
	out.Message = m
	out.Redelivered = d.Redelivered
	out.Properties = adapters.Properties{
		ContentType:   d.ContentType,
		CorrelationID: d.CorrelationId,
		ReplyTo:       d.ReplyTo,
		Timestamp:     d.Timestamp,
		Attempt:       1,
		TTL:           expiration(d.Expiration),
		Priority:      d.Priority,
		Transient:     d.DeliveryMode != amqp091.Persistent,
	}
	if d.Exchange != "" {
		out.Key = d.RoutingKey
	}
	for name, value := range d.Headers {
		if !readOwn(name, value, m, out) {
			m.Metadata[name] = text(value)
		}
	}
	if _, died := d.Headers[metadataDeaths]; died {
		readDeaths(d, m, out)
	}
	if out.Key == "" && d.Exchange == "" {
		out.Key, _ = d.Headers[headerKey].(string)
	}
}

// readOwn deals with the headers that have a meaning here, and tells whether
// name is one.
func readOwn(name string, value any, m *message.Message, out *adapters.Delivery) bool {
	switch name {
	case headerUUID:
		if m.UUID == "" {
			m.UUID = text(value)
		}
	case headerAttempt:
		if n, err := strconv.Atoi(text(value)); err == nil && n > 0 {
			out.Attempt = n
		}
	case headerTTL:
		out.TTL = expiration(text(value))
	case headerKey, headerSeq, "x-delivery-count", "x-acquired-count", metadataDeaths,
		metadataFirstDeathReason, metadataFirstDeathQueue, "x-first-death-exchange",
		"x-last-death-reason", "x-last-death-queue", "x-last-death-exchange":
	default:
		if plain, ok := strings.CutPrefix(name, headerEscape); ok {
			m.Metadata[plain] = text(value)
			return true
		}
		return strings.HasPrefix(name, headerDelay)
	}
	return true
}

// readDeaths makes of x-death what it says, without the steps of a delay,
// which nobody died of.
func readDeaths(d *amqp091.Delivery, m *message.Message, out *adapters.Delivery) {
	list, _ := d.Headers[metadataDeaths].([]any)
	var texts []string
	for _, item := range list {
		death, _ := item.(amqp091.Table)
		queue, reason := text(death["queue"]), text(death["reason"])
		if strings.HasPrefix(queue, ladder) {
			continue
		}
		texts = append(texts, queue+" "+reason+" "+text(death["count"]))
		// The last one is the oldest.
		m.Metadata[metadataFirstDeathReason], m.Metadata[metadataFirstDeathQueue] = reason, queue
		if keys, ok := death["routing-keys"].([]any); ok && len(keys) > 0 && text(death["exchange"]) != "" && d.Exchange == "" {
			out.Key = text(keys[0]) // a dead letter keeps the key that it first came with
		}
	}
	if texts != nil {
		m.Metadata[metadataDeaths] = strings.Join(texts, ", ")
	}
}

// expiration reads a time to live in milliseconds; what is none is no limit.
func expiration(s string) time.Duration {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// text renders any value that a header can have.
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
	if err != nil { // a number that is none
		return fmt.Sprint(value)
	}
	return string(rendered)
}

// plainValue replaces what json would render in another way than text does.
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

// decimal renders a number with its point in place: exactly, where a float
// would round.
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
