package amqp

import (
	"context"
	"fmt"
	"sync"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// supervisor keeps a connection up: it connects again whenever the connection is lost, until the
// driver is closed. One supervisor is for publishing, the others for consuming, so that a broker
// that blocks publishers does not stop acknowledgements.
type supervisor struct {
	driver *Driver
	role   string

	mu      sync.Mutex
	conn    *connection   // nil while there is none
	changed chan struct{} // closed when conn or err changes
	err     error         // why there is no connection, or why the last one ended
	gen     uint64
	next    int // the index of the next address to try

	ctx  context.Context // ends with the driver, or before
	stop context.CancelFunc

	used      int  // channels promised to subscriptions; guarded by the driver's mu
	dedicated bool // for one suspect only; written under the driver's mu by its owner
}

func newSupervisor(d *Driver, role string) *supervisor {
	sup := &supervisor{driver: d, role: role, changed: make(chan struct{})}
	sup.ctx, sup.stop = context.WithCancel(d.ctx)
	return sup
}

// connection returns the current connection. It waits for one as long as ctx allows.
func (sup *supervisor) connection(ctx context.Context) (*connection, error) {
	for {
		sup.mu.Lock()
		conn, changed, err := sup.conn, sup.changed, sup.err
		sup.mu.Unlock()
		if conn != nil && conn.ctx.Err() == nil {
			return conn, nil
		}
		select {
		case <-changed:
		case <-sup.driver.ctx.Done():
			return nil, adapters.ErrClosed
		case <-ctx.Done():
			return nil, unavailable(ctx, err)
		}
	}
}

// unavailable returns the error of somebody whose ctx ended while waiting for the broker.
func unavailable(ctx context.Context, why error) error {
	if why == nil {
		return fmt.Errorf("amqp: %w: %w", adapters.ErrUnavailable, ctx.Err())
	}
	return fmt.Errorf("amqp: %w: %w (last: %w)", adapters.ErrUnavailable, ctx.Err(), why)
}

// setCurrent replaces the connection, or notes why there is none.
func (sup *supervisor) setCurrent(conn *connection, err error) {
	sup.mu.Lock()
	defer sup.mu.Unlock()
	sup.conn = conn
	if err != nil {
		sup.err = err
	}
	close(sup.changed)
	sup.changed = make(chan struct{})
}

// connect connects to the first address that accepts.
func (sup *supervisor) connect(ctx context.Context) (*connection, error) {
	addresses, err := sup.driver.cfg.addresses(ctx)
	if err != nil {
		return nil, err
	}
	var errs joinedErrors
	for range addresses {
		sup.mu.Lock()
		address, first := addresses[sup.next%len(addresses)], sup.gen == 0
		sup.mu.Unlock()
		client, mux, err := sup.driver.cfg.dial(ctx, address, sup.driver.cfg.Name+" "+sup.role, first)
		if err == nil {
			sup.mu.Lock()
			sup.gen++
			gen := sup.gen
			sup.mu.Unlock()
			return newConnection(sup, gen, address, client, mux), nil
		}
		sup.mu.Lock()
		sup.next++
		sup.mu.Unlock()
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errs
}

// run keeps the connection up, beginning with conn unless that is nil.
func (sup *supervisor) run(conn *connection) {
	ctx := sup.ctx
	pause := kit.Backoff{Min: sup.driver.cfg.BackoffMin, Max: sup.driver.cfg.BackoffMax}
	refused := 0 // logins, in a row

	// Where the driver is closed already, watch closes conn.
	for conn != nil || ctx.Err() == nil {
		if conn == nil {
			var err error
			if conn, err = sup.connect(ctx); err != nil {
				sup.setCurrent(nil, err)
				wait := pause.Next()
				// A node that goes down during a login looks like one that refuses it: only the
				// second refusal in a row counts.
				if refused++; !refusedLogin(err) {
					refused = 0
				}
				if refused > 1 {
					wait = 6 * sup.driver.cfg.BackoffMax
				}
				if ctx.Err() == nil {
					sup.driver.cfg.Logger.Warn("motif: cannot connect", "role", sup.role, "error", err, "retry_in", wait)
				}
				sleep(ctx, wait)
				continue
			}
			refused = 0
		}
		sup.connected(conn)
		lost := conn.watch()
		if conn.lostToFirst() {
			sup.setCurrent(nil, nil)
			conn = nil
			continue
		}
		sup.setCurrent(nil, lost)
		if ctx.Err() == nil {
			sup.driver.emit(Event{Kind: Lost, Role: sup.role, Address: conn.address, Generation: conn.generation, Err: lost})
			sup.driver.cfg.Logger.Warn("motif: connection lost", "role", sup.role, "address", conn.address, "error", lost)
			if conn.lasted() {
				pause.Reset()
			}
			sleep(ctx, pause.Next())
		}
		conn = nil
	}
}

// connected puts a new connection to use.
func (sup *supervisor) connected(conn *connection) {
	if conn.generation > 1 && sup == sup.driver.publisher {
		sup.driver.redeclare(conn)
	}
	sup.driver.warnUnknownBroker(conn)
	sup.driver.emit(Event{Kind: Connected, Role: sup.role, Address: conn.address, Generation: conn.generation})
	sup.driver.cfg.Logger.Info("motif: connected", "role", sup.role, "address", conn.address, "generation", conn.generation)
	sup.driver.tasks.Go(conn.keepCredentialsFresh)
	sup.setCurrent(conn, nil)
}

// generation returns how many connections there have been so far.
func (sup *supervisor) generation() uint64 {
	sup.mu.Lock()
	defer sup.mu.Unlock()
	return sup.gen
}

// current returns the current connection, or nil.
func (sup *supervisor) current() *connection {
	sup.mu.Lock()
	defer sup.mu.Unlock()
	return sup.conn
}
