package amqp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// rights are a user's, as RabbitMQ has them: what to configure, to write to and to read from.
type rights struct{ name, configure, write, read string }

// TestRightsLoseNothing: whatever rights a handler's user has, and whatever becomes of a message
// that it cannot send on, it is in its queue, or where its policy has it put after as many attempts
// as the policy says.
func TestRightsLoseNothing(t *testing.T) {
	table := []rights{
		{"all", ".*", ".*", ".*"},
		{"read only", "^$", "^$", ".*"},
		{"write to queues only", "^$", `^amq\.default$`, ".*"},
		{"write to all", "^$", ".*", ".*"},
		{"configure only", ".*", "^$", ".*"},
		{"none of the delays'", "^jobs", `^amq\.default$|^jobs`, "^jobs"},
	}
	policy := patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: 10 * time.Millisecond, Max: 20 * time.Millisecond})
	fault := errors.New("oven is cold")
	outcomes := []struct {
		name  string
		fail  func() error
		tries int // before it is given up
	}{
		{"error", func() error { return fault }, 3},
		{"reject", func() error { return patterns.Reject(fault) }, 1},
		{"panic", func() error { panic("boom") }, 3},
		{"RetryAfter", func() error { return patterns.RetryAfter(10*time.Millisecond, fault) }, 3},
		{"RetryAfter no time", func() error { return patterns.RetryAfter(0, fault) }, 3},
	}
	v := amqptest.Shared(t)
	for i, r := range table {
		for _, passive := range []bool{true, false} {
			for _, o := range outcomes {
				t.Run(fmt.Sprintf("%s, passive %v, %s", r.name, passive, o.name), func(t *testing.T) {
					t.Parallel()
					user := fmt.Sprintf("cook-%d-%v-%s", i, passive, strings.ReplaceAll(o.name, " ", "-"))
					k := newKitchen(t, v, user, passive)
					k.limit(t, r)
					k.work(t, o.fail, policy)
					k.settles(t, o.tries)
				})
			}
		}
	}
}

// kitchen is a queue that the owner of the broker declared, with dead letters, and a user who works
// it.
type kitchen struct {
	v       *amqptest.VHost
	admin   *Driver
	user    string
	queue   string
	passive bool
	tries   atomic.Int32
	log     safeBuffer
	bus     *patterns.Bus
	refused error // of Work
}

type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func newKitchen(t *testing.T, v *amqptest.VHost, user string, passive bool) *kitchen {
	t.Helper()
	k := &kitchen{v: v, user: user, queue: "jobs-" + user, passive: passive, admin: connectTo(t, v.URL)}
	if err := v.AddUser(ctx, user, password); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.DeleteUser(ctx, user) })
	src := fromQueue(k.queue, 1)
	src.Queue.DeadLetter = k.queue + ".dead"
	declare(t, k.admin, src)
	publish(t, k.admin, adapters.Publication{
		To: src.Endpoint, Properties: adapters.Properties{ContentType: "text/plain"},
	}, "dough")
	return k
}

func (k *kitchen) limit(t *testing.T, r rights) {
	t.Helper()
	if err := k.v.SetPermissions(ctx, k.user, r.configure, r.write, r.read); err != nil {
		t.Fatal(err)
	}
}

func (k *kitchen) work(t *testing.T, fail func() error, opts ...patterns.WorkOption) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(&k.log, nil))
	d := connectTo(t, k.v.URLFor(k.user, password), func(c *Config) { c.Logger = log })
	k.bus = patterns.New(d, patterns.WithLogger(log))
	t.Cleanup(func() { _ = k.bus.Close(soon(t)) })
	var queue []patterns.WorkQueueOption
	if k.passive {
		queue = append(queue, patterns.Passive())
	}
	_, k.refused = patterns.NewWorkQueue[string](k.bus, k.queue, queue...).Work(soon(t), func(context.Context, string) error {
		k.tries.Add(1)
		return fail()
	}, opts...)
}

// settles waits until the message is given up after so many attempts, or has come back time and
// again, and looks where it is.
func (k *kitchen) settles(t *testing.T, tries int) {
	t.Helper()
	if k.refused != nil {
		if !errors.Is(k.refused, adapters.ErrAccess) {
			t.Errorf("Work: %v", k.refused)
		}
		k.at(t, k.queue)
		return
	}
	eventually(t, "it is given up, or has come back", func() bool {
		return k.waiting(k.queue+".dead") == 1 || k.bus.Stats().Requeued > 1
	})
	if k.waiting(k.queue+".dead") == 1 {
		if n := int(k.tries.Load()); n < tries {
			t.Errorf("given up after %d attempts of %d\n%s", n, tries, k.log.String())
		}
		return
	}
	if !strings.Contains(k.log.String(), "ACCESS_REFUSED") {
		t.Errorf("the log does not name the cause:\n%s", k.log.String())
	}
	if err := k.bus.Close(soon(t)); err != nil {
		t.Error(err)
	}
	k.at(t, k.queue)
}

func (k *kitchen) at(t *testing.T, queue string) {
	t.Helper()
	eventually(t, "the message is in "+queue, func() bool { return k.waiting(queue) == 1 })
}

// waiting counts what is ready in a queue.
func (k *kitchen) waiting(queue string) (n int) {
	_ = k.admin.Do(ctx, func(ch *amqp091.Channel) error {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		n = q.Messages
		return err
	})
	return n
}
