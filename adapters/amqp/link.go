package amqp

import (
	"context"
	"fmt"
	"sync"

	"github.com/motifmq/motif/adapters"
)

// link is a connection that comes back: one session after another, for as long
// as the driver lives. There is one for publishing, and others for consuming,
// so that a broker that blocks publishers does not stop acknowledgements.
type link struct {
	d    *Driver
	role string

	mu      sync.Mutex
	current *session      // nil while there is none
	changed chan struct{} // closed when current or err changes
	err     error         // why there is no session, or why the last one ended
	gen     uint64
	next    int // of the addresses, the one to try next

	ctx  context.Context // ends with the driver, or before
	stop context.CancelFunc

	used int  // channels promised to subscriptions; under the driver's lock
	lone bool // for one suspect; written under the driver's lock, by who holds the link
}

func newLink(d *Driver, role string) *link {
	l := &link{d: d, role: role, changed: make(chan struct{})}
	l.ctx, l.stop = context.WithCancel(d.ctx)
	return l
}

// session returns the present session, waiting for one as long as ctx allows.
func (l *link) session(ctx context.Context) (*session, error) {
	for {
		l.mu.Lock()
		s, changed, err := l.current, l.changed, l.err
		l.mu.Unlock()
		if s != nil && s.ctx.Err() == nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-l.d.ctx.Done():
			return nil, adapters.ErrClosed
		case <-ctx.Done():
			return nil, unavailable(ctx, err)
		}
	}
}

// unavailable is the error of who waited for the broker in vain.
func unavailable(ctx context.Context, why error) error {
	if why == nil {
		return fmt.Errorf("amqp: %w: %w", adapters.ErrUnavailable, ctx.Err())
	}
	return fmt.Errorf("amqp: %w: %w (last: %w)", adapters.ErrUnavailable, ctx.Err(), why)
}

// set replaces the session, or notes why there is none.
func (l *link) set(s *session, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = s
	if err != nil {
		l.err = err
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// connect makes a session with the first address that will have it.
func (l *link) connect(ctx context.Context) (*session, error) {
	addresses, err := l.d.cfg.addresses(ctx)
	if err != nil {
		return nil, err
	}
	var errs several
	for range addresses {
		l.mu.Lock()
		address, first := addresses[l.next%len(addresses)], l.gen == 0
		l.mu.Unlock()
		conn, f, err := l.d.cfg.dial(ctx, address, l.d.cfg.Name+" "+l.role, first)
		if err == nil {
			l.mu.Lock()
			l.gen++
			gen := l.gen
			l.mu.Unlock()
			return newSession(l, gen, address, conn, f), nil
		}
		l.mu.Lock()
		l.next++
		l.mu.Unlock()
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errs
}

// run keeps the link up, beginning with s if that is not nil.
func (l *link) run(s *session) {
	ctx := l.ctx
	pause := backoff{min: l.d.cfg.BackoffMin, max: l.d.cfg.BackoffMax}
	refused := 0 // in a row
	for ctx.Err() == nil {
		if s == nil {
			var err error
			if s, err = l.connect(ctx); err != nil {
				l.set(nil, err)
				wait := pause.wait()
				// A node that goes down in the middle of a login looks like one that
				// refuses it: only the second time counts.
				if refused++; !refusedLogin(err) {
					refused = 0
				}
				if refused > 1 {
					wait = 6 * l.d.cfg.BackoffMax
				}
				if ctx.Err() == nil {
					l.d.cfg.Logger.Warn("motif: cannot connect", "link", l.role, "error", err, "next_try", wait)
				}
				sleep(ctx, wait)
				continue
			}
			refused = 0
		}
		l.up(s)
		lost := s.watch()
		l.set(nil, lost)
		if ctx.Err() == nil {
			l.d.event(Event{Kind: Lost, Link: l.role, Address: s.address, Generation: s.gen, Err: lost})
			l.d.cfg.Logger.Warn("motif: connection lost", "link", l.role, "address", s.address, "error", lost)
			if s.lasted() {
				pause.reset()
			}
			sleep(ctx, pause.wait())
		}
		s = nil
	}
}

// up lets a new session be used.
func (l *link) up(s *session) {
	if s.gen > 1 && l == l.d.publishing {
		l.d.redeclare(s)
	}
	l.d.meet(s)
	l.d.event(Event{Kind: Connected, Link: l.role, Address: s.address, Generation: s.gen})
	l.d.cfg.Logger.Info("motif: connected", "link", l.role, "address", s.address, "generation", s.gen)
	l.d.spawn(s.renewing)
	l.set(s, nil)
}

// generation counts the sessions so far.
func (l *link) generation() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gen
}

// now returns the present session, or nil.
func (l *link) now() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}
