package conformancetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance"
)

// RabbitMQ is our adapter on a node of RabbitMQ that the suite has for itself,
// with one type of queues. Its name has the version without what is only repaired in it:
// "RabbitMQ 4.3 quorum". Where the node has its management API, it is used.
func RabbitMQ(node *amqptest.Node, queueType amqp.QueueType) Adapter {
	claims := adapters.AllV1
	if node.ManagementURL() == "" {
		claims &^= managed
	}
	return Adapter{
		Name:     fmt.Sprintf("RabbitMQ %s %s", series(node.Version), queueType),
		About:    fmt.Sprintf("adapters/amqp on RabbitMQ %s, durable queues are %s queues.", node.Version, queueType),
		Ours:     true,
		Features: adapters.Features{Adapter: "amqp", Ability: claims},
		Open: func(ctx context.Context) (*conformance.Harness, error) {
			h, err := OnRabbitMQ(ctx, node, func(ctx context.Context, url string) (adapters.Driver, error) {
				cfg, err := amqp.ParseURL(url)
				if err != nil {
					return nil, err
				}
				cfg.QueueType, cfg.Management = queueType, node.ManagementURL()
				d, err := amqp.Connect(ctx, cfg)
				if err != nil {
					return nil, err
				}
				return d, nil
			})
			if err == nil && series(node.Version) >= "4.3" && queueType == amqp.Classic {
				h.HoldLimit = nil // such queues have no consumer timeout there
			}
			return h, err
		},
	}
}

// OnRabbitMQ returns a harness for an adapter that connects by URL. It has a virtual host of its
// own on node, a user with all rights there, and hooks for all that a broker can suffer. What
// concerns the node is for cases that have it for themselves.
func OnRabbitMQ(ctx context.Context, node *amqptest.Node, connect func(ctx context.Context, url string) (adapters.Driver, error)) (*conformance.Harness, error) {
	l, err := newLogin(ctx, node)
	if err != nil {
		return nil, err
	}
	return l.harness(func(ctx context.Context) (adapters.Driver, error) { return connect(ctx, l.url) }), nil
}

// managed are the abilities that take the management API.
const managed = adapters.CanList | adapters.CanListBindings

// series is the 4.3 of 4.3.6.
func series(version string) string {
	numbers := strings.Split(version, ".")
	return strings.Join(numbers[:min(2, len(numbers))], ".")
}

// login is a virtual host of one harness, and who may do all there.
type login struct {
	*amqptest.VHost
	node           *amqptest.Node
	user, password string
	url            string
}

var logins atomic.Int64

func newLogin(ctx context.Context, node *amqptest.Node) (*login, error) {
	user := fmt.Sprintf("conformance-%d", logins.Add(1))
	v, err := node.AddVHost(ctx, user)
	if err != nil {
		return nil, err
	}
	l := &login{VHost: v, node: node, user: user, password: rand.Text()}
	l.url = v.URLFor(l.user, l.password)
	err = v.AddUser(ctx, l.user, l.password)
	if err == nil {
		err = v.SetPermissions(ctx, l.user, ".*", ".*", ".*")
	}
	if err == nil {
		err = v.AllowManagement(ctx, l.user)
	}
	if err != nil {
		return nil, errors.Join(err, l.close(ctx))
	}
	return l, nil
}

func (l *login) close(ctx context.Context) error {
	return errors.Join(l.Delete(ctx), l.DeleteUser(ctx, l.user))
}

func (l *login) harness(connect func(context.Context) (adapters.Driver, error)) *conformance.Harness {
	return &conformance.Harness{
		Connect: connect,
		Close:   l.close,
		// As rabbitmqctl stop_app and start_app do, which takes a second where to
		// start a process takes five. Killing the node is for adapters/amqp/faults.
		Restart: func(ctx context.Context) error {
			return l.node.Eval(ctx, nil, `ok = rabbit:stop(), ok = rabbit:start(), ok = rabbit:await_startup()`)
		},
		Cut: func(ctx context.Context) error {
			_, err := l.CloseConnections(ctx)
			return err
		},
		Freeze: func(context.Context) (func() error, error) {
			return l.node.Thaw, l.node.Freeze()
		},
		Block: func(ctx context.Context) (func() error, error) {
			unblock := func() error { return l.node.ClearAlarms(context.WithoutCancel(ctx)) }
			return unblock, l.node.MemoryAlarm(ctx)
		},
		Depth: func(ctx context.Context, queue string) (int, error) {
			q, err := l.Queue(ctx, queue)
			return q.Ready, err
		},
		Delete: l.DeleteQueue,

		HoldLimit: l.holdLimit,
		Secret:    l.password,
	}
}

// holdLimit sets the consumer timeout of channels that are opened from now on. From 4.3 on it is
// the consumer's own.
func (l *login) holdLimit(ctx context.Context, d time.Duration) (undo func() error, err error) {
	if series(l.node.Version) >= "4.3" {
		return func() error { return nil }, nil
	}
	set := func(ctx context.Context, timeout, tick time.Duration) error {
		return l.node.Eval(ctx, nil, `
			application:set_env(rabbit, consumer_timeout, %d),
			application:set_env(rabbit, channel_tick_interval, %d)`, timeout.Milliseconds(), tick.Milliseconds())
	}
	undo = func() error { return set(context.WithoutCancel(ctx), 30*time.Minute, time.Minute) }
	return undo, set(ctx, d, 100*time.Millisecond)
}
