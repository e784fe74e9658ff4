package kafka

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/motifmq/motif/adapters"
)

var _ adapters.HealthReporter = (*Driver)(nil)

// probeEvery is how often a driver asks whether a broker is there. The client notices nothing while
// it has nothing to say.
const probeEvery = 2 * time.Second

// link is what is known of the connections that something is done on, which the client makes as it
// needs them.
type link struct {
	mu sync.Mutex
	is adapters.Connection
}

func newLink(role string) *link { return &link{is: adapters.Connection{Role: role}} }

// health returns how it is.
func (l *link) health() adapters.Connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.is
	if !c.Up {
		c.Address, c.Broker = "", ""
	}
	return c
}

// made notes a new connection.
func (l *link) made(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.is.Generation++
	l.is.Up, l.is.Address, l.is.Broker = true, address, "Kafka"
}

// failed notes that one was lost or could not be made.
func (l *link) failed(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.is.LastError = why
}

// lost notes that it was lost, and is down.
func (l *link) lost(why error) {
	l.failed(why)
	l.up(false)
}

// up notes whether there is one.
func (l *link) up(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.is.Up = up
}

// watcher has a client tell what becomes of its connections.
type watcher struct {
	link *link
	wake chan struct{} // of one: something has failed
}

var (
	_ kgo.HookBrokerConnect = (*watcher)(nil)
	_ kgo.HookBrokerWrite   = (*watcher)(nil)
	_ kgo.HookBrokerRead    = (*watcher)(nil)
)

// OnBrokerConnect implements [kgo.HookBrokerConnect].
func (w *watcher) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, conn net.Conn, err error) {
	if err != nil {
		w.failed(err)
		return
	}
	w.link.made(conn.RemoteAddr().String())
}

// OnBrokerWrite implements [kgo.HookBrokerWrite].
func (w *watcher) OnBrokerWrite(_ kgo.BrokerMetadata, _ int16, _ int, _, _ time.Duration, err error) {
	w.failed(err)
}

// OnBrokerRead implements [kgo.HookBrokerRead].
func (w *watcher) OnBrokerRead(_ kgo.BrokerMetadata, _ int16, _ int, _, _ time.Duration, err error) {
	w.failed(err)
}

func (w *watcher) failed(err error) {
	if err == nil {
		return
	}
	w.link.failed(fmt.Errorf("kafka: %w: %w", adapters.ErrUnavailable, err))
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// probe asks whether a broker is there, from time to time and when something has failed, until the
// driver is closed.
func (d *Driver) probe() {
	ctx, cancel := d.bound(context.Background())
	defer cancel()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-d.watcher.wake:
		case <-ctx.Done():
			return
		}
		asking, enough := context.WithTimeout(ctx, dialTimeout)
		_, err := within(asking, func() (any, error) { return nil, d.client.Ping(asking) })
		enough()
		if err != nil {
			d.watcher.link.failed(fmt.Errorf("kafka: %w: %w", adapters.ErrUnavailable, err))
		}
		d.watcher.link.up(err == nil)
		select { // it has said so itself
		case <-d.watcher.wake:
		default:
		}
	}
}

// Health implements [adapters.HealthReporter]. There is one entry for what is published and asked,
// with the address of the broker that was connected to last; one for each subscription, and one for
// each topic of what is delayed that the driver moves on. That a broker is gone is noticed within
// two seconds, and that it stands still within seven, by a subscription within half a minute.
func (d *Driver) Health() adapters.Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	links := []*link{d.watcher.link}
	subs := make([]*subscription, 0, len(d.subs))
	for s := range d.subs {
		subs = append(subs, s)
	}
	slices.SortFunc(subs, func(a, b *subscription) int { return cmp.Compare(a.number, b.number) })
	for _, s := range subs {
		links = append(links, s.link)
	}
	for _, l := range d.moves {
		if l != nil && l.health().Generation > 0 { // it has begun
			links = append(links, l)
		}
	}
	var h adapters.Health
	for _, l := range links {
		c := l.health()
		if d.tasks.IsClosed() {
			c.Up, c.Address, c.Broker = false, "", ""
		}
		h.Connections = append(h.Connections, c)
	}
	return h
}
