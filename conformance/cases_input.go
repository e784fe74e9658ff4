package conformance

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// odd is text that has surprised somebody's program before; what is printable of
// it can be a name.
var odd = slices.Concat(oddNames, unprintable, []string{
	"two words", " leading", "Capitals", "no\u00a0break", "zero\u200bwidth", "\ufeffmark",
	"a?b=c&d#e", "a.b", "a..b", ".", "a.*.#", "a,b;c", "'", "$1", "${x}", "{{x}}", "<b>", "-", "_", "@",
	"null", "true", "0", "-1", "1e9", "NaN",
})

var (
	oddNames = []string{
		" ", "trailing ", "CAPITALS", "capitals", "caf\u00e9", "cafe\u0301", "\u65e5\u672c\u8a9e", "\u202eright to left", "\U0001f35c",
		"a/b", "a%2Fb", "..", "*", "#", "a:b", `"quoted"`, `back\slash`, "%s%n",
	}
	unprintable = []string{
		"nul\x00byte", "two\nlines", "two\r\nlines", "tab\t", "bell\a", "\x1b[31mred", "delete\x7f", "next\u0085line",
		"not \xff\xfe UTF-8", "half a rune \xe2\x82",
	}
)

// lengths is text of as many bytes as fit, and of one more.
func lengths() []string {
	return []string{strings.Repeat("l", adapters.MaxNameBytes), strings.Repeat("l", adapters.MaxNameBytes+1), strings.Repeat("\u20ac", adapters.MaxNameBytes/3) + "x"}
}

var inputCases = []Case{
	{
		ID:   "input/names",
		Rule: "A queue's name is used byte by byte as it is, or refused as ErrInvalid; no two names mean the same queue.",
		run: func(t *trial) {
			d := t.connect()
			var taken []adapters.Source
			for i, text := range slices.Concat([]string{""}, oddNames, unprintable, lengths()) {
				name := text + t.name("") + text
				if len(text) >= adapters.MaxNameBytes {
					name = fmt.Sprint(i) + t.name("") + text
					name = name[:len(text)] // no longer than it was
				}
				s := queue(name, 1)
				err := d.Declare(t.soon(), s)
				switch {
				case s.Validate() != nil:
					t.is(err, adapters.ErrInvalid, fmt.Sprintf("declaring a queue with %.40q in its name", text))
				case err == nil:
					taken = append(taken, s)
				default:
					t.is(err, adapters.ErrInvalid, fmt.Sprintf("declaring a queue with %.40q in its name", text))
				}
			}
			var subs []adapters.Subscription
			for _, s := range taken {
				subs = append(subs, t.subscribe(d, s))
			}
			for i, s := range slices.Backward(taken) { // of two that are one, the consumers get the wrong messages
				t.publish(d, to(s), fmt.Sprintf("for-%d", i))
			}
			for i, s := range taken {
				same(t, t.take(subs[i], 1), []string{fmt.Sprintf("for-%d", i)}, fmt.Sprintf("what is in the queue called %.40q", s.Name))
			}
		},
	},
	{
		ID:   "input/keys",
		Rule: "The key, content type and encoding, type, app id, correlation id and reply address of a message arrive as they are, or are refused as ErrInvalid, and the client lives on.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(100)
			for i, text := range slices.Concat(odd, lengths()) {
				p := to(s)
				p.Key, p.ContentType, p.CorrelationID, p.ReplyTo = text, text, text, text
				p.ContentEncoding, p.Type, p.AppID = text, text, text
				m := message.NewMessage(fmt.Sprintf("m-%d", i), nil)
				err := d.Publish(t.soon(), p, m)
				if err != nil || p.Validate() != nil {
					t.is(err, adapters.ErrInvalid, fmt.Sprintf("publishing with the key %.40q", text))
					continue
				}
				got := t.receive(sub)
				t.settle(got, adapters.Ack)
				for what, value := range map[string]string{
					"key": got.Key, "content type": got.ContentType, "content encoding": got.ContentEncoding, "type": got.Type, "app id": got.AppID,
					"correlation id": got.CorrelationID, "reply address": got.ReplyTo,
				} {
					if value != text {
						t.errorf("the %s %.40q came as %.40q", what, text, value)
					}
				}
			}
		},
	},
	{
		ID:   "input/ids-and-metadata",
		Rule: "Ids and metadata arrive byte by byte as they are, or the message is refused as ErrInvalid, and the client lives on.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(100)
			try := func(m *message.Message) {
				want := m.Copy()
				err := d.Publish(t.soon(), to(s), m)
				if err != nil || adapters.ValidateMessage(m) != nil {
					t.is(err, adapters.ErrInvalid, fmt.Sprintf("publishing with the id %.40q and the metadata %.80q", m.UUID, fmt.Sprint(m.Metadata)))
					return
				}
				got := t.receive(sub)
				t.settle(got, adapters.Ack)
				t.sameMessage(got.Message, want, "")
			}
			for _, text := range slices.Concat(odd, lengths()) {
				m := message.NewMessage(text, []byte(text))
				m.Metadata = message.Metadata{text: text, "plain": "as ever"}
				try(m)
			}
			m := message.NewMessage("empty", nil)
			m.Metadata.Set("", "")
			try(m)
			m = message.NewMessage("long", nil)
			m.Metadata.Set("long", strings.Repeat("v", 32<<10))
			try(m)
			t.publish(d, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what comes next")
		},
	},
	{
		ID:   "input/payloads",
		Rule: "A payload arrives byte by byte as it was, whatever is in it; none at all arrives as an empty one.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			every := make([]byte, 256)
			for i := range every {
				every[i] = byte(i)
			}
			payloads := [][]byte{nil, {}, {0}, []byte("not \xff\xfe UTF-8"), every, []byte("{"), bytes.Repeat(every, 256)}
			if most := d.Features().MaxBody; most == 0 || most >= 1<<20 {
				payloads = append(payloads, bytes.Repeat([]byte("\x00\r\n\xce"), 1<<18)) // 0xce ends a frame of AMQP
			}
			for i, payload := range payloads {
				m := message.NewMessage(fmt.Sprintf("m-%d", i), payload)
				t.must(d.Publish(t.soon(), to(s), m), fmt.Sprintf("publishing a payload of %d bytes", len(payload)))
				got := t.receive(sub)
				t.settle(got, adapters.Ack)
				t.sameMessage(got.Message, m, "")
			}
		},
	},
	{
		ID:   "input/much-metadata",
		Rule: "Metadata of 64 KiB, keys and values together, arrives whole; with a byte more the message is refused as ErrInvalid, and the client lives on.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			for _, names := range []int{1, 2_000} {
				m := message.NewMessage(fmt.Sprintf("most-%d", names), nil)
				left := adapters.MaxMetadataBytes
				for i := range names {
					key := fmt.Sprintf("name-%d", i)
					size := left / (names - i)
					m.Metadata.Set(key, strings.Repeat("v", size-len(key)))
					left -= size
				}
				t.must(d.Publish(t.soon(), to(s), m), fmt.Sprintf("publishing with as much metadata as fits, in %d", names))
				got := t.receive(sub)
				t.settle(got, adapters.Ack)
				t.sameMessage(got.Message, m, "")

				more := message.NewMessage(fmt.Sprintf("more-%d", names), nil)
				for key, value := range m.Metadata {
					more.Metadata.Set(key, value)
				}
				more.Metadata["name-0"] += "v"
				t.blames(d.Publish(t.soon(), to(s), more), adapters.ErrInvalid, []*message.Message{more}, 0)
			}
			twice := message.NewMessage("twice", nil)
			twice.Metadata.Set("name", strings.Repeat("v", 2*adapters.MaxMetadataBytes))
			t.blames(d.Publish(t.soon(), to(s), twice), adapters.ErrInvalid, []*message.Message{twice}, 0)
			t.publish(d, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what comes next")
		},
	},
	{
		ID:   "input/metadata-does-nothing",
		Rule: "Metadata is carried and means nothing: whatever its names, it comes back as it was or is refused as ErrInvalid, and steers nothing.",
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 10)
			victim := queue(t.name("victim"), 10)
			bystander, sub := t.subscribe(d, victim), t.subscribe(d, s)
			all := message.NewMessage("all", []byte("payload"))
			msgs := []*message.Message{all}
			for name, value := range map[string]string{
				"CC": victim.Name, "BCC": victim.Name, "cc": victim.Name,
				"x-death": "victim rejected 1", "x-first-death-queue": victim.Name, "x-first-death-reason": "expired", "x-delivery-count": "7",
				"x-delay": "100000", "x-match": "all", "x-expires": "1", "x-message-ttl": "1", "x-priority": "9", "X-Death": "1",
				"motif-attempt": "9", "motif-key": "another", "motif-ttl": "1", "motif-seq": "1", "motif-delay-00": "1", "motif-delay-to": "queue",
				"motif-metadata-CC": victim.Name, "motif-error": "none", "motif-queue": victim.Name,
				"_watermill_message_uuid": "another", "uuid": "another", "message_id": "another", "correlation_id": "another", "reply_to": victim.Name,
				"expiration": "1", "priority": "9", "delivery_mode": "1", "user_id": "somebody", "content_type": "text/plain", "Content-Type": "text/plain",
				"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "__proto__": "{}",
			} {
				all.Metadata.Set(name, value)
				m := message.NewMessage("with-"+name, []byte("payload"))
				m.Metadata.Set(name, value)
				msgs = append(msgs, m)
			}
			for _, m := range msgs {
				want := m.Copy()
				for range 2 { // and sent on as it was received
					if err := d.Publish(t.soon(), to(s), m); err != nil {
						t.is(err, adapters.ErrInvalid, fmt.Sprintf("publishing with the metadata %.80q", fmt.Sprint(m.Metadata)))
						break
					}
					got := t.receive(sub)
					t.settle(got, adapters.Ack)
					t.sameMessage(got.Message, want, "")
					if got.Key != "" || got.Attempt != 1 || got.ReplyTo != "" || got.TTL != 0 || got.Priority != 0 || got.Transient {
						t.errorf("the metadata %.80q made the key %q and the properties %+v", fmt.Sprint(m.Metadata), got.Key, got.Properties)
					}
					m = got.Message
				}
			}
			t.publish(d, to(victim), "marker")
			same(t, t.take(bystander, 1), []string{"marker"}, "what is in a queue that only metadata named")
		},
	},
	{
		ID:   "input/reserved-names",
		Rule: "Names that belong to the broker are ErrInvalid.",
		run: func(t *trial) {
			d := t.connect()
			for _, name := range []string{"amq.headers", "amq.gen-" + t.name("queue"), "amq." + t.name("queue")} {
				for _, s := range []adapters.Source{
					queue(name, 1),
					private(adapters.Fanout, name),
					private(adapters.Direct, name, "key"),
					private(adapters.Topic, name, "key"),
					{Endpoint: queue(t.name("queue"), 1).Endpoint, Queue: adapters.QueueSpec{DeadLetter: name}, Prefetch: 1},
				} {
					t.invalidSource(d, s, fmt.Sprintf("with the name %q", name))
				}
			}
		},
	},
	{
		ID:   "input/sources",
		Rule: "A source that breaks a rule is ErrInvalid, for Declare as for Subscribe.",
		run: func(t *trial) {
			d, name := t.connect(), t.name("queue")
			limited := func(change func(*adapters.QueueSpec)) adapters.Source {
				s := queue(name, 1)
				change(&s.Queue)
				return s
			}
			passive := private(adapters.Fanout, name)
			passive.Passive = true
			specified := private(adapters.Fanout, name)
			specified.Queue.MaxLength = 1
			keys := queue(name, 1)
			keys.Keys = []string{"key"}
			for what, s := range map[string]adapters.Source{
				"with no name":                          queue("", 1),
				"with a negative length":                limited(func(q *adapters.QueueSpec) { q.MaxLength = -1 }),
				"with a negative time to live":          limited(func(q *adapters.QueueSpec) { q.MessageTTL = -time.Second }),
				"with an unknown overflow":              limited(func(q *adapters.QueueSpec) { q.Overflow = adapters.DropHead + 1 }),
				"that is its own dead-letter queue":     limited(func(q *adapters.QueueSpec) { q.DeadLetter = name }),
				"of a queue with keys":                  keys,
				"of a fanout with keys":                 private(adapters.Fanout, name, "key"),
				"of a direct exchange without keys":     private(adapters.Direct, name),
				"of a topic exchange without keys":      private(adapters.Topic, name),
				"of a group with a colon":               group(adapters.Fanout, name, "a:b"),
				"of a group with a line break":          group(adapters.Fanout, name, "a\nb"),
				"of a group whose queue's name is long": group(adapters.Fanout, name, strings.Repeat("g", adapters.MaxNameBytes-len(name))),
				"of a queue with a group":               group(adapters.Queue, name, "group"),
				"with a key that is too long":           private(adapters.Direct, name, strings.Repeat("k", adapters.MaxKeyBytes+1)),
				"that is private and passive":           passive,
				"that is private, with properties":      specified,
			} {
				t.invalidSource(d, s, what)
			}
			t.declare(d, queue(name, 0)) // still possible, and it needs no prefetch
		},
	},
	{
		ID:   "input/prefetch",
		Rule: "A prefetch below 1 or above 65535 is ErrInvalid, and never means no limit.",
		run: func(t *trial) {
			d, name := t.connect(), t.name("queue")
			for _, prefetch := range []int{0, -1, 65536, -65535} {
				sub, err := d.Subscribe(t.soon(), queue(name, prefetch))
				if t.is(err, adapters.ErrInvalid, fmt.Sprintf("subscribing with a prefetch of %d", prefetch)); err == nil {
					_ = sub.Stop()
				}
			}
			for _, prefetch := range []int{65535, 1} {
				sub := t.subscribe(d, queue(name, prefetch))
				t.publish(d, to(queue(name, 1)), "a")
				same(t, t.take(sub, 1), []string{"a"}, fmt.Sprintf("what comes with a prefetch of %d", prefetch))
				t.must(sub.Stop(), "stopping")
			}
		},
	},
	{
		ID:   "input/unknown-kinds",
		Rule: "An endpoint of a kind that there is not is ErrInvalid.",
		run: func(t *trial) {
			d := t.connect()
			for _, kind := range []adapters.Kind{15, 255} { // which need no ability
				s := queue(t.name("queue"), 1)
				s.Kind = kind
				t.invalidSource(d, s, fmt.Sprintf("of kind %d", kind))
				t.is(d.Publish(t.soon(), to(s), text("m")...), adapters.ErrInvalid, fmt.Sprintf("publishing to kind %d", kind))
			}
			reply := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1}
			if t.claims.Ability.Has(adapters.CanReply) {
				t.is(d.Declare(t.soon(), reply), adapters.ErrInvalid, "declaring a reply address")
			}
		},
	},
}

// invalidSource checks that s is refused by Declare and Subscribe, unless it takes what
// is not claimed.
func (t *trial) invalidSource(d adapters.Driver, s adapters.Source, what string) {
	if !t.claims.Ability.Has(s.Needs()) {
		return
	}
	t.is(d.Declare(t.soon(), s), adapters.ErrInvalid, "declaring a source "+what)
	sub, err := d.Subscribe(t.soon(), s)
	if t.is(err, adapters.ErrInvalid, "subscribing to a source "+what); err == nil {
		_ = sub.Stop()
	}
}
