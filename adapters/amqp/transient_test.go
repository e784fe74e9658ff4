package amqp

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// foreignChannel is somebody else's.
func foreignChannel(t *testing.T, url string) *amqp091.Channel {
	t.Helper()
	conn, err := amqp091.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// lookout is told of the first failure to subscribe again.
type lookout chan struct{}

func (l lookout) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("subscribing again")) {
		select {
		case l <- struct{}{}:
		default:
		}
	}
	return len(b), nil
}

// TestPassingExclusiveUse: that another consumes a queue exclusively, or owns it, is said to who
// begins, and waited for by who began before.
func TestPassingExclusiveUse(t *testing.T) {
	v := amqptest.Shared(t)
	failed := make(lookout, 1)
	d := connectTo(t, v.URL, func(c *Config) {
		c.QueueType, c.BackoffMin, c.BackoffMax = Classic, 500*time.Millisecond, 500*time.Millisecond
		c.Logger = slog.New(slog.NewTextHandler(failed, nil))
	})
	sub := subscribe(t, d, fromQueue("q", 1))
	other := foreignChannel(t, v.URL)
	eventually(t, "another consumes it exclusively, while the subscription has lost its session", func() bool {
		if conn := d.consumers[0].current(); conn != nil {
			conn.netConn.Abort(errors.New("cut"))
		}
		_, err := other.Consume("q", "other", true, true, false, false, nil)
		if err != nil {
			other = foreignChannel(t, v.URL)
		}
		return err == nil
	})
	_, err := d.Subscribe(soon(t), fromQueue("q", 1))
	wantErr(t, "Subscribe", err, ErrInUse)
	wantErr(t, "Subscribe", err, adapters.ErrUnavailable)
	<-failed
	if err := other.Cancel("other", false); err != nil {
		t.Fatal(err)
	}
	publish(t, d, mandatory("q"), "a")
	receiveAll(t, sub, "a")

	if _, err := other.QueueDeclare("owned", false, false, true, false, nil); err != nil {
		t.Fatal(err)
	}
	passive := fromQueue("owned", 1)
	passive.Passive = true
	for _, src := range []adapters.Source{passive, fromQueue("owned", 1)} {
		_, err = d.Subscribe(soon(t), src)
		wantErr(t, "Subscribe", err, ErrInUse)
		_, err = d.Get(soon(t), src)
		wantErr(t, "Get", err, ErrInUse)
	}
}

// TestPassingLimits: a limit that an operator has set is no refused login: it is said, and tried
// again.
func TestPassingLimits(t *testing.T) {
	v, user := amqptest.Shared(t), t.Name()
	if err := v.AddUser(ctx, user, password); err != nil {
		t.Fatal(err)
	}
	defer v.DeleteUser(ctx, user)
	if err := v.SetPermissions(ctx, user, ".*", ".*", ".*"); err != nil {
		t.Fatal(err)
	}
	url := v.URLFor(user, password)
	for name, set := range map[string]func(most int) error{
		"of a user":  func(most int) error { return v.LimitUser(ctx, user, "max-connections", most) },
		"of a vhost": func(most int) error { return v.Limit(ctx, "max-connections", most) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := set(0); err != nil {
				t.Fatal(err)
			}
			var err error
			eventually(t, "no more connections", func() bool {
				var d *Driver
				if d, err = Connect(ctx, configFor(t, url)); err == nil {
					_ = d.Close(ctx)
				}
				return err != nil
			})
			wantErr(t, "Connect", err, ErrLimit)
			if errors.Is(err, adapters.ErrAccess) || errors.Is(err, adapters.ErrInvalid) {
				t.Errorf("it is taken for a refused login: %v", err)
			}
			cfg := configFor(t, url)
			cfg.RetryConnect = true
			result := make(chan error, 1)
			go func() {
				d, err := Connect(soon(t), cfg)
				if err == nil {
					err = d.Close(ctx)
				}
				result <- err
			}()
			if err := set(-1); err != nil {
				t.Fatal(err)
			}
			if err := <-result; err != nil {
				t.Errorf("it is not tried again: %v", err)
			}
		})
	}
	if err := v.Limit(ctx, "max-queues", 0); err != nil {
		t.Fatal(err)
	}
	d := connectTo(t, v.URL)
	wantErr(t, "Declare", d.Declare(soon(t), fromQueue("one too many", 1)), ErrLimit)
}
