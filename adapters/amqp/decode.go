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

// What queues count, see decoding.returned.
const (
	headerDeliveries = "x-delivery-count"
	headerAcquired   = "x-acquired-count"
)

// decode reads what came in.
func (h *handed) decode(out *adapters.Delivery) {
	f := fields{h.text}
	exchange, key := f.short(), f.short()
	flags := uint16(f.uint(2))
	text := func(flag uint16) string {
		if flags&flag == 0 {
			return ""
		}
		return f.short()
	}
	number := func(flag uint16, n int) uint64 {
		if flags&flag == 0 {
			return 0
		}
		return f.uint(n)
	}
	d := decoding{m: &h.message, out: out}
	out.Message, out.Redelivered = d.m, h.redelivered
	out.Attempt = 1
	out.ContentType = text(flagContentType)
	text(flagEncoding)
	headers := fields{}
	if flags&flagHeaders != 0 {
		headers.s = f.long()
	}
	out.Transient = number(flagDeliveryMode, 1) != uint64(amqp091.Persistent)
	out.Priority = uint8(number(flagPriority, 1))
	out.CorrelationID = text(flagCorrelation)
	out.ReplyTo = text(flagReplyTo)
	out.TTL = expiration(text(flagExpiration))
	d.m.UUID = text(flagMessageID)
	if flags&flagTimestamp != 0 {
		out.Timestamp = time.Unix(int64(f.uint(8)), 0)
	}
	d.m.Metadata = make(message.Metadata)
	for len(headers.s) > 0 {
		name, kind := headers.field()
		if kind == 'S' {
			d.header(name, headers.long())
		} else {
			d.odd(name, headers.value(kind, 0))
		}
	}
	d.finish(exchange, key)
}

// decode fills in what amqp091 received, all but the Settler.
func decode(from *amqp091.Delivery, m *message.Message, out *adapters.Delivery) {
	d := decoding{m: m, out: out}
	m.UUID, m.Payload = from.MessageId, from.Body
	m.Metadata = make(message.Metadata, len(from.Headers))
	out.Message = m
	out.Redelivered = from.Redelivered
	out.Properties = adapters.Properties{
		ContentType:   from.ContentType,
		CorrelationID: from.CorrelationId,
		ReplyTo:       from.ReplyTo,
		Timestamp:     from.Timestamp,
		Attempt:       1,
		TTL:           expiration(from.Expiration),
		Priority:      from.Priority,
		Transient:     from.DeliveryMode != amqp091.Persistent,
	}
	for name, value := range from.Headers {
		d.odd(name, value)
	}
	d.finish(from.Exchange, from.RoutingKey)
}

// decoding is a message whose headers are being read. Nothing that somebody
// else put into one is a reason to refuse it.
type decoding struct {
	m      *message.Message
	out    *adapters.Delivery
	key    string // as a header says it
	deaths []any
	again  bool // its publisher sent it again, which is nothing that the queue counts

	// How often the queue has delivered the message before. RabbitMQ 4.3 counts with the one all
	// that came back, with the other what came back for the loss of a session; before, the other
	// counts all. Either may be what a publisher put there, if the message has not come back.
	returned int
}

// odd deals with a header of any type.
func (d *decoding) odd(name string, value any) {
	switch s, isText := value.(string); {
	case name == headerAcquired, name == headerDeliveries:
		d.returned = max(d.returned, count(value))
	case name == metadataDeaths:
		d.deaths, _ = value.([]any)
	case name == headerKey && !isText: // not ours
	default:
		if !isText {
			s = text(value)
		}
		d.header(name, s)
	}
}

// header deals with one that is a text, or rendered as one.
func (d *decoding) header(name, text string) {
	if !meaningful(name) { // which is most of them
		d.m.Metadata[name] = text
		return
	}
	switch name {
	case headerUUID:
		if d.m.UUID == "" {
			d.m.UUID = text
		}
	case headerAttempt:
		if n, err := strconv.Atoi(text); err == nil && n > 0 {
			d.out.Attempt = n
		}
	case headerAgain:
		d.again = true
	case headerPriority:
		if n, err := strconv.ParseUint(text, 10, 8); err == nil {
			d.out.Priority = uint8(n)
		}
	case headerTTL:
		d.out.TTL = expiration(text)
	case headerKey:
		d.key = text
	case headerLost:
		if n, err := strconv.Atoi(text); err == nil && n > 0 {
			d.out.Lost = n
		}
	case headerSeq, headerDeliveries, headerAcquired, metadataDeaths,
		metadataFirstDeathReason, metadataFirstDeathQueue, "x-first-death-exchange",
		"x-last-death-reason", "x-last-death-queue", "x-last-death-exchange":
	default:
		if plain, ok := strings.CutPrefix(name, headerEscape); ok {
			d.m.Metadata[plain] = text
		} else if !strings.HasPrefix(name, headerDelay) {
			d.m.Metadata[name] = text
		}
	}
}

// finish is for what the whole of the headers says.
func (d *decoding) finish(exchange, key string) {
	if exchange != "" {
		d.out.Key = key
	}
	if d.out.Redelivered {
		if d.out.Returned = d.returned; d.returned == 0 {
			d.out.Returned = -1 // classic queues do not count
		}
	}
	d.out.Redelivered = d.out.Redelivered || d.again
	d.readDeaths(exchange)
	if d.out.Key == "" && exchange == "" {
		d.out.Key = d.key
	}
}

// readDeaths makes of x-death what it says, without the steps of a delay,
// which nobody died of.
func (d *decoding) readDeaths(exchange string) {
	var texts []string
	for _, item := range d.deaths {
		death, _ := item.(amqp091.Table)
		queue, reason := text(death["queue"]), text(death["reason"])
		if strings.HasPrefix(queue, ladder) {
			continue
		}
		texts = append(texts, queue+" "+reason+" "+text(death["count"]))
		// The last one is the oldest.
		d.m.Metadata[metadataFirstDeathReason], d.m.Metadata[metadataFirstDeathQueue] = reason, queue
		if keys, ok := death["routing-keys"].([]any); ok && len(keys) > 0 && text(death["exchange"]) != "" && exchange == "" {
			d.out.Key = text(keys[0]) // a dead letter keeps the key that it first came with
		}
	}
	if texts != nil {
		d.m.Metadata[metadataDeaths] = strings.Join(texts, ", ")
	}
}

// count reads a header that is a number; what is none, or a negative one, is 0.
func count(value any) int {
	n, err := strconv.ParseInt(text(value), 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
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
