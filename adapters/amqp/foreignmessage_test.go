package amqp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
	"github.com/motifmq/motif/patterns"
)

// anybody makes messages as any client could.
type anybody struct{ *rand.Rand }

func (g anybody) often(percent int) bool { return g.IntN(100) < percent }

func (g anybody) text() string {
	switch g.IntN(6) {
	case 0:
		return ""
	case 1:
		return strings.Repeat("long ", 51)
	case 2:
		return "\x00two\nlines\xff"
	}
	return fmt.Sprintf("text-%d é", g.IntN(1000))
}

func (g anybody) name(depth int) string {
	name := []string{"n", "x-n", "x-opt-", "X-N", "id", "task", "é", " ", "\xff", "cc", "x-delay", "x-match", strings.Repeat("n", 240), "x-" + strings.Repeat("n", 240)}[g.IntN(14)]
	if depth > 0 && g.often(20) {
		return []string{"", "CC", "x-death", "motif-key"}[g.IntN(4)]
	}
	return name + fmt.Sprint(g.IntN(20))
}

func (g anybody) table(depth int) amqp091.Table {
	table := amqp091.Table{}
	for range g.IntN(5) {
		table[g.name(depth)] = g.value(depth)
	}
	return table
}

// value makes one of any type that a header can have, tables and lists four deep.
func (g anybody) value(depth int) any {
	kinds := 18
	if depth == 4 {
		kinds = 16
	}
	switch g.IntN(kinds) {
	case 0:
		return nil
	case 1:
		return g.often(50)
	case 2:
		return byte(g.Uint32())
	case 3:
		return int8(g.Uint32())
	case 4:
		return int16(g.Uint32())
	case 5:
		return uint16(g.Uint32())
	case 6:
		return int32(g.Uint32())
	case 7:
		return g.Uint32()
	case 8:
		return int64(g.Uint64())
	case 9:
		return float32(g.NormFloat64())
	case 10:
		return g.NormFloat64()
	case 11:
		return amqp091.Decimal{Scale: uint8(g.IntN(10)), Value: int32(g.Uint32() >> 1)}
	case 12:
		return time.Unix(int64(g.Uint32()), 0)
	case 13:
		return []byte(g.text())
	case 14, 15:
		return g.text()
	case 16:
		list := []any{}
		for range g.IntN(5) {
			list = append(list, g.value(depth+1))
		}
		return list
	}
	return g.table(depth + 1)
}

func (g anybody) publishing(body string) amqp091.Publishing {
	p := amqp091.Publishing{Body: []byte(body)}
	for _, field := range []*string{&p.ContentType, &p.ContentEncoding, &p.CorrelationId, &p.ReplyTo, &p.MessageId, &p.Type, &p.AppId} {
		if g.often(50) {
			*field = g.text()
		}
	}
	if g.often(20) {
		p.ContentType = "application/json"
	}
	if g.often(20) {
		p.UserId = "guest"
	}
	if g.often(40) {
		p.Timestamp = time.Unix([]int64{0, 1, 1767323045, 1 << 40}[g.IntN(4)], 0)
	}
	if g.often(30) {
		p.Expiration = []string{"600000", "0600000", "+600000", "4294967295", "4294967296", "315360000000"}[g.IntN(6)]
	}
	p.DeliveryMode, p.Priority = []uint8{0, 1, 2, 2, 2}[g.IntN(5)], []uint8{0, 0, 1, 4, 9, 200}[g.IntN(6)]
	if g.often(80) {
		p.Headers = g.table(0)
	}
	return p
}

// plainClient is one that is not ours.
func plainClient(t testing.TB, url string) *amqp091.Channel {
	t.Helper()
	conn, err := amqp091.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// send publishes, and returns when the broker has it all.
func send(t testing.TB, ch *amqp091.Channel, exchange, key string, messages ...amqp091.Publishing) {
	t.Helper()
	var confirms []*amqp091.DeferredConfirmation
	for _, m := range messages {
		confirm, err := ch.PublishWithDeferredConfirm(exchange, key, true, false, m)
		if err != nil {
			t.Fatal(err)
		}
		confirms = append(confirms, confirm)
	}
	for _, confirm := range confirms {
		if ok, err := confirm.WaitContext(soon(t)); !ok || err != nil {
			t.Fatalf("not confirmed: %v", err)
		}
	}
}

// look takes the next message of a queue with a plain client, and has it in hand.
func look(t testing.TB, ch *amqp091.Channel, queue string) amqp091.Delivery {
	t.Helper()
	for wait := soon(t); wait.Err() == nil; time.Sleep(5 * time.Millisecond) {
		d, ok, err := ch.Get(queue, false)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return d
		}
	}
	t.Fatalf("nothing came into %s", queue)
	return amqp091.Delivery{}
}

// withoutOurs takes away what Motif or the broker added.
func withoutOurs(d amqp091.Delivery) amqp091.Publishing {
	headers := amqp091.Table{}
	for name, value := range d.Headers {
		if !strings.HasPrefix(name, "motif-") && !isBrokerHeader(name) {
			headers[name] = value
		}
	}
	return amqp091.Publishing{
		Headers: headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
		CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId, Timestamp: d.Timestamp,
		Type: d.Type, UserId: d.UserId, AppId: d.AppId, Body: d.Body,
	}
}

// onTheWire is a message's properties byte by byte, without what Motif or the broker added.
func onTheWire(d adapters.Delivery) string {
	f := frame.Reader{S: d.Settler.(*incoming).header}
	f.ShortString()
	f.ShortString()
	var p properties
	p.read(&f)
	headers := slices.DeleteFunc(headersOf(p.headers), func(h string) bool { return strings.HasPrefix(h, `"motif-`) })
	slices.Sort(headers) // as RabbitMQ (3.10) does with those of what waited
	if p.headers = strings.Join(headers, "\n"); len(headers) == 0 {
		p.flags &^= flagHeaders
	}
	return fmt.Sprintf("%+v", p)
}

// passage is queues through which messages go.
type passage struct {
	d     *Driver
	bus   *patterns.Bus
	plain *amqp091.Channel
	x     string
	jobs  *patterns.WorkQueue[patterns.Raw]
	as    [2]string // queues that have the messages as they came
	back  [2]string // queues that have them as they were sent back
	seen  uint64
}

func newPassage(t testing.TB, queueType QueueType) *passage {
	d := connect(t, func(c *Config) { c.QueueType = queueType })
	p := &passage{d: d, bus: patterns.New(d), plain: plainClient(t, brokerURL(t)), x: unique(t) + ".x"}
	p.jobs = patterns.NewWorkQueue[patterns.Raw](p.bus, unique(t))
	p.as, p.back = [2]string{p.x + ".1", p.x + ".2"}, [2]string{p.x + ".3", p.x + ".4"}
	if err := p.jobs.Declare(soon(t)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{p.as[0], p.as[1], p.back[0], p.back[1]} {
		declare(t, d, fromQueue(name, 1))
	}
	if err := p.plain.ExchangeDeclare(p.x, "fanout", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{p.jobs.Name(), p.as[0], p.as[1]} {
		if err := p.plain.QueueBind(name, "", p.x, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	retry := patterns.Retry(patterns.RetryPolicy{Min: 1, Attempts: 5})
	_, err := p.jobs.Work(context.Background(), func(ctx context.Context, _ patterns.Raw) error {
		switch d, _ := patterns.DeliveryFrom(ctx); d.Attempt {
		case 1:
			return errors.New("again later")
		case 2:
			return patterns.RetryAfter(0, errors.New("again at once"))
		}
		return patterns.Reject(errors.New("enough"))
	}, retry, patterns.Workers(8))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pass has messages fail, die and be sent back, and compares them all along.
func (p *passage) pass(t testing.TB, messages []amqp091.Publishing) {
	t.Helper()
	send(t, p.plain, p.x, "", messages...)
	p.seen += uint64(len(messages))
	for wait := soon(t); p.bus.Stats().DeadLettered < p.seen && wait.Err() == nil; {
		time.Sleep(5 * time.Millisecond)
	}
	dead := p.jobs.Dead()
	want := map[string]amqp091.Publishing{}
	for range messages {
		d := look(t, p.plain, p.as[0])
		want[string(d.Body)] = withoutOurs(d)
		if err := d.Ack(false); err != nil {
			t.Fatal(err)
		}
	}
	check := func(where string, got amqp091.Publishing, want amqp091.Publishing) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n%#v, came as\n%#v", where, got, want)
		}
	}
	for range messages {
		letter := withoutOurs(look(t, p.plain, dead.Name()))
		came := want[string(letter.Body)]
		came.Expiration = "" // or it would end there
		check("the dead letter is", letter, came)
	}
	if err := p.plain.Nack(0, true, true); err != nil {
		t.Fatal(err)
	}
	sendBack := func(ctx context.Context, v patterns.Raw, d patterns.Delivery) error {
		for _, to := range p.back {
			if err := patterns.NewWorkQueue[patterns.Raw](p.bus, to, patterns.Passive()).Send(ctx, v, patterns.AsReceived(d)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, get := range []func(context.Context) (*patterns.Message[patterns.Raw], error){dead.Get, dead.TryGet} {
		letter, err := get(soon(t))
		for ; errors.Is(err, adapters.ErrEmpty); letter, err = get(soon(t)) { // the broker is about to have them back
			time.Sleep(time.Millisecond)
		}
		if err == nil {
			err = sendBack(soon(t), letter.Value, letter.Delivery)
		}
		if err == nil {
			err = letter.Ack(soon(t))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	sub, err := dead.Work(context.Background(), func(ctx context.Context, v patterns.Raw) error {
		d, _ := patterns.DeliveryFrom(ctx)
		return sendBack(ctx, v, d)
	}, patterns.Workers(8))
	if err != nil {
		t.Fatal(err)
	}
	for range messages {
		d := look(t, p.plain, p.back[0])
		check("it was sent back as", withoutOurs(d), want[string(d.Body)])
	}
	if err := errors.Join(p.plain.Ack(0, true), sub.Stop(soon(t))); err != nil { // all of them
		t.Fatal(err)
	}
	asCame, asSent := p.read(t, p.as[1], len(messages)), p.read(t, p.back[1], len(messages))
	if !maps.Equal(asCame, asSent) {
		for body, was := range asCame {
			if now := asSent[body]; now != was {
				t.Errorf("sent back as\n%q, came as\n%q", now, was)
			}
		}
	}
}

// read takes messages out of a queue, and returns what they are on the wire.
func (p *passage) read(t testing.TB, queue string, n int) map[string]string {
	t.Helper()
	sub := subscribe(t, p.d, fromQueue(queue, 10))
	all := map[string]string{}
	for range n {
		d, err := sub.Receive(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		all[string(d.Message.Payload)] = onTheWire(d)
		settle(t, d, adapters.Ack)
	}
	if err := sub.Stop(); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestForeignMessagesGoOnAsTheyCame: what a client of somebody else's published is unchanged after
// two retries, one of them delayed, as a dead letter, and when it is sent back from there.
func TestForeignMessagesGoOnAsTheyCame(t *testing.T) {
	t.Parallel() // it waits most of the time
	for _, queueType := range []QueueType{Quorum, Classic} {
		t.Run(string(queueType), func(t *testing.T) {
			g := anybody{rand.New(rand.NewPCG(1, 2))}
			var messages []amqp091.Publishing
			for i := range 200 {
				messages = append(messages, g.publishing(fmt.Sprint("body ", i)))
			}
			newPassage(t, queueType).pass(t, messages)
		})
	}
}

// TestForeignMessagesGoOnWhereTheBrokerWouldAct: what would be copied again, refused, or end at
// once if it went on as it came, keeps that in headers of ours.
func TestForeignMessagesGoOnWhereTheBrokerWouldAct(t *testing.T) {
	vhost := amqptest.Shared(t)
	brokerURLs.Store(t, vhost.URL)
	defer brokerURLs.Delete(t)
	p := newPassage(t, Quorum)
	for _, err := range []error{vhost.AddUser(ctx, "eve", "secret"), vhost.SetPermissions(ctx, "eve", ".*", ".*", ".*")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	eve := plainClient(t, vhost.URLFor("eve", "secret"))
	copies := unique(t) + ".copies"
	declare(t, p.d, fromQueue(copies, 1))
	cc := []any{copies}
	for _, c := range []struct {
		name  string
		by    *amqp091.Channel
		is    amqp091.Publishing
		want  amqp091.Publishing
		extra amqp091.Table
	}{
		{
			"CC", p.plain,
			amqp091.Publishing{Headers: amqp091.Table{"CC": cc, "a": int32(1)}},
			amqp091.Publishing{Headers: amqp091.Table{"a": int32(1)}},
			amqp091.Table{"motif-metadata-CC": cc},
		},
		{"somebody else's user_id", eve, amqp091.Publishing{UserId: "eve", AppId: "app"}, amqp091.Publishing{AppId: "app"}, amqp091.Table{"motif-user-id": "eve"}},
		{
			"more headers than Motif's own may have", p.plain,
			amqp091.Publishing{Headers: amqp091.Table{"much": strings.Repeat("much", 25_000)}},
			amqp091.Publishing{Headers: amqp091.Table{"much": strings.Repeat("much", 25_000)}},
			nil,
		},
		{"an expiration at once", p.plain, amqp091.Publishing{Expiration: "0", Type: "t"}, amqp091.Publishing{Type: "t"}, amqp091.Table{"motif-ttl": "0"}},
		{
			"headers of the broker's", p.plain,
			amqp091.Publishing{Headers: amqp091.Table{"x-delivery-count": int64(7), "x-death": []any{}, "x-first-death-queue": "q"}, Type: "t"},
			amqp091.Publishing{Type: "t"},
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.is.Body, c.want.Body = []byte(c.name), []byte(c.name)
			if c.want.Headers == nil {
				c.want.Headers = amqp091.Table{}
			}
			send(t, c.by, "", p.jobs.Name(), c.is)
			letter, err := p.jobs.Dead().Get(soon(t))
			if err != nil {
				t.Fatal(err)
			}
			back := patterns.NewWorkQueue[patterns.Raw](p.bus, p.back[0], patterns.Passive())
			for range 2 { // once more, as it was sent back
				if err := back.Send(soon(t), letter.Value, patterns.AsReceived(letter.Delivery)); err != nil {
					t.Fatal(err)
				}
				if err := letter.Ack(soon(t)); err != nil {
					t.Fatal(err)
				}
				if letter, err = back.Get(soon(t)); err != nil {
					t.Fatal(err)
				}
			}
			if err := letter.Requeue(soon(t)); err != nil {
				t.Fatal(err)
			}
			got := look(t, p.plain, p.back[0])
			if err := got.Ack(false); err != nil {
				t.Fatal(err)
			}
			if plainly := withoutOurs(got); !reflect.DeepEqual(plainly, c.want) {
				t.Errorf("sent back as\n%#v, want\n%#v", plainly, c.want)
			}
			for name, value := range got.Headers {
				if isBrokerHeader(name) && (strings.Contains(name, "death") || value == int64(7)) { // the broker counts what comes back
					t.Errorf("header %s is the broker's, and was published as %v", name, value)
				}
			}
			for name, value := range c.extra {
				if !reflect.DeepEqual(got.Headers[name], value) {
					t.Errorf("header %s is %v, want %v", name, got.Headers[name], value)
				}
			}
		})
	}
	sub := subscribe(t, p.d, fromQueue(copies, 10))
	settle(t, receive(t, sub, ""), adapters.Ack)
	nothing(t, sub)
}

// FuzzForeignMessages is that for any message.
func FuzzForeignMessages(f *testing.F) {
	p := newPassage(f, Quorum)
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		g := anybody{rand.New(rand.NewPCG(a, b))}
		var messages []amqp091.Publishing
		for i := range 10 { // few, for whatever takes 10 s is taken for a deadlock
			messages = append(messages, g.publishing(fmt.Sprint("body ", i)))
		}
		p.pass(t, messages)
	})
}
