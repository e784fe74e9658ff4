package amqp

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// operator declares exchanges and binds queues, as somebody does who is not Motif.
type operator struct {
	exchange func(name, kind string) error
	bind     func(queue, exchange, key string, args map[string]string) error
}

func operators(t *testing.T) map[*patterns.Bus]operator {
	d, b := connect(t), memory.New()
	t.Cleanup(b.Close)
	return map[*patterns.Bus]operator{
		patterns.New(b.Connect()): {b.DeclareExchange, b.Bind},
		patterns.New(d): {
			func(name, kind string) error {
				return d.Do(soon(t), func(ch *amqp091.Channel) error {
					return ch.ExchangeDeclare(name, kind, true, false, false, false, nil)
				})
			},
			func(queue, exchange, key string, args map[string]string) error {
				table := amqp091.Table{}
				for name, value := range args {
					table[name] = value
				}
				return d.Do(soon(t), func(ch *amqp091.Channel) error { return ch.QueueBind(queue, key, exchange, false, table) })
			},
		},
	}
}

// drained returns what is in a queue, in order.
func drained(t *testing.T, q *patterns.WorkQueue[string]) (values []string) {
	t.Helper()
	for m, err := range q.Waiting(soon(t)) {
		if err == nil {
			values = append(values, m.Value)
			err = m.Ack(soon(t))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return values
}

// An exchange that somebody else declared, of any type, is published to as it stands, and a queue
// that somebody else bound to it is worked on: the same in process.
func TestExistingExchanges(t *testing.T) {
	eu := patterns.Header("region", "eu")
	us := patterns.Header("region", "us")
	x := patterns.Header("x-trace", "1")
	for bus, by := range operators(t) {
		for _, test := range []struct {
			name, kind string
			key        string
			args       map[string]string
			want       string // of those that are published
		}{
			{"", "direct", "k", nil, "plain keyed"},
			{"", "fanout", "other", nil, "plain eu us x keyed"},
			{"", "topic", "#.k", nil, "plain keyed"},
			{"", "headers", "k", map[string]string{"region": "eu"}, "eu"},
			{"amq.headers", "", "k", map[string]string{"region": "eu", "x-match": "all"}, "eu"},
			{"amq.match", "", "", map[string]string{"region": "us", "other": "1", "x-match": "any"}, "us"},
			{"", "headers", "", map[string]string{"region": "us", "other": "1"}, ""},
			{"", "headers", "", map[string]string{"x-trace": "2"}, "plain eu us x keyed"},
			{"", "headers", "", map[string]string{"x-trace": "1", "x-match": "any"}, ""},
			{"", "headers", "", map[string]string{"x-trace": "1", "x-match": "any-with-x"}, ""},
			{"", "headers", "", map[string]string{"x-trace": "1", "region": "eu", "x-match": "all-with-x"}, ""},
			{"", "headers", "", nil, "plain eu us x keyed"},
		} {
			what := fmt.Sprintf("%s %s%s %v", bus.Driver().Features().Adapter, test.name, test.kind, test.args)
			name := test.name
			if name == "" {
				name = unique(t)
				if err := by.exchange(name, test.kind); err != nil {
					t.Fatal(what, err)
				}
			}
			queue := unique(t)
			if err := patterns.NewWorkQueue[string](bus, queue).Declare(soon(t)); err != nil {
				t.Fatal(what, err)
			}
			if err := by.bind(queue, name, test.key, test.args); err != nil {
				t.Fatal(what, err)
			}
			to := patterns.NewExchange[string](bus, name)
			receipt, err := to.PublishAsync(soon(t), "k", "plain")
			if err == nil {
				err = receipt.Wait(soon(t))
			}
			for _, err := range []error{
				err,
				to.Publish(soon(t), "", "eu", eu),
				to.PublishBatch(soon(t), "", []string{"us"}, us),
				to.Publish(soon(t), "", "x", x),
				to.Publish(soon(t), "k", "keyed"),
			} {
				if err != nil {
					t.Fatal(what, err)
				}
			}
			got := drained(t, patterns.NewWorkQueue[string](bus, queue, patterns.Passive()))
			if s := strings.Join(got, " "); s != test.want {
				t.Errorf("%s: the queue got %q, want %q", what, s, test.want)
			}
		}
	}
}

// What is of no type of AMQP's is the broker's affair. Each message goes into one queue, by its
// key.
func TestConsistentHashExchange(t *testing.T) {
	d := connect(t)
	bus := patterns.New(d)
	name, queues := unique(t), []string{unique(t), unique(t)}
	for _, queue := range queues {
		if err := patterns.NewWorkQueue[string](bus, queue).Declare(soon(t)); err != nil {
			t.Fatal(err)
		}
		if err := d.Do(soon(t), func(ch *amqp091.Channel) error {
			if err := ch.ExchangeDeclare(name, "x-consistent-hash", true, false, false, false, nil); err != nil {
				return err
			}
			return ch.QueueBind(queue, "10", name, false, nil)
		}); err != nil {
			t.Fatal(err)
		}
	}
	to := patterns.NewExchange[string](bus, name)
	want := map[string]int{}
	for n := range 200 {
		key := fmt.Sprint("key ", n%100)
		want[key]++
		if err := to.Publish(soon(t), key, key, patterns.Mandatory()); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]int{}
	for _, queue := range queues {
		for key, n := range counted(drained(t, patterns.NewWorkQueue[string](bus, queue, patterns.Passive()))) {
			if got[key] += n; n != 2 {
				t.Errorf("%d of the messages of %q are in one queue", n, key)
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("the queues got %v", got)
	}
}

func counted(values []string) map[string]int {
	n := map[string]int{}
	for _, v := range values {
		n[v]++
	}
	return n
}

// An existing exchange is never declared. One that is missing is said to be, whether or not it was
// there before.
func TestExistingExchangeThatGoes(t *testing.T) {
	d := connect(t)
	bus := patterns.New(d)
	name, queue := unique(t), unique(t)
	to := patterns.NewExchange[string](bus, name)
	do := func(f func(ch *amqp091.Channel) error) {
		t.Helper()
		if err := d.Do(soon(t), f); err != nil {
			t.Fatal(err)
		}
	}
	if err := patterns.NewWorkQueue[string](bus, queue).Declare(soon(t)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantErr(t, "publish", to.Publish(soon(t), "", "lost"), adapters.ErrNotFound)
		receipt, err := to.PublishAsync(soon(t), "", "lost")
		if err == nil {
			err = receipt.Wait(soon(t))
		}
		wantErr(t, "async", err, adapters.ErrNotFound)
		wantErr(t, "delayed", to.Publish(soon(t), "", "lost", patterns.Delay(time.Second)), adapters.ErrNotFound)
		do(func(ch *amqp091.Channel) error {
			if err := ch.ExchangeDeclare(name, "headers", true, false, false, false, nil); err != nil {
				return err
			}
			return ch.QueueBind(queue, "", name, false, nil)
		})
		for _, err := range []error{
			to.Publish(soon(t), "", "kept", patterns.Mandatory()),
			to.Publish(soon(t), "", "later", patterns.Delay(100*time.Millisecond)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for len(got) < 2 && soon(t).Err() == nil {
			got = append(got, drained(t, patterns.NewWorkQueue[string](bus, queue))...)
		}
		if !slices.Equal(got, []string{"kept", "later"}) {
			t.Errorf("the queue got %q", got)
		}
		do(func(ch *amqp091.Channel) error { return ch.ExchangeDelete(name, false, false) })
	}
	do(func(ch *amqp091.Channel) error {
		return ch.ExchangeDeclare(name, "fanout", true, false, true, false, nil) // for the broker's own use
	})
	wantErr(t, "publish to an internal exchange", to.Publish(soon(t), "", "refused"), adapters.ErrAccess)
}
