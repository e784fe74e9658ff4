package amqp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// The broker closes the connection for some operations that it refuses, and everything else on the
// connection ends with it. It says why, but not always for which operation. So:
//
//   - An operation whose queue or exchange the broker names fails with that error at once.
//   - Every other operation that was in progress is a suspect, and is tried once more on a
//     connection of its own. If that is closed, too, the suspect was the cause, and nobody else has
//     paid again.
//   - Publishes share a connection, and so does what they declare, which is tried once more there.
//     If the broker calls it an internal error again, it is declared on a connection of its own.
//
// What the broker calls an internal error is transient, such as a new queue that is not ready. The
// operation is tried again on a connection of its own, for as long as its ctx allows. There are few
// of these, and those that need one take turns.

// connectionError is the error of an operation that the broker may have closed the connection for.
type connectionError struct {
	why     *frame.CloseError
	certain bool // the broker names the operation's queue or exchange
}

func (e *connectionError) Error() string {
	return fmt.Sprintf("%v: the broker closed the connection: %v", sentinel(e.why), e.why)
}

func (e *connectionError) Unwrap() []error { return []error{sentinel(e.why), e.why} }

// maxDedicated is how many connections there may be for suspects, and turnPause how long one waits
// at least until it has another.
const (
	maxDedicated = 4
	turnPause    = 250 * time.Millisecond
)

// connectionError returns the error, if any, of an operation on a queue or exchange that was in
// progress when the connection ended. It is nil if the connection did not end for an operation.
func (conn *connection) connectionError(about string) error {
	c := conn.mux.ClientFault()
	if c == nil || conn.lostToFirst() {
		return nil
	}
	named := strings.Contains(c.Err.Reason, "queue '"+about+"' in ") || strings.Contains(c.Err.Reason, "exchange '"+about+"' in ")
	return &connectionError{c, named}
}

// isTransient reports whether an operation that cost its connection may succeed later.
func isTransient(err error) bool {
	return errors.Is(err, adapters.ErrUnavailable) && !errors.Is(err, ErrLimit)
}

// withConnection runs f with the current connection of sup, and again with the next one if that is
// lost meanwhile. If f may have cost the connection, it replaces sup by a supervisor of its own.
// about is the queue that f is about.
func (d *Driver) withConnection(ctx context.Context, sup **supervisor, about string, f func(*connection) error) error {
	for {
		conn, err := (*sup).connection(ctx)
		if err != nil {
			return err
		}
		if err = f(conn); err == nil || errors.Is(err, adapters.ErrEmpty) {
			return err
		}
		err = d.finalError(ctx, conn, err, about)
		if err == nil {
			continue
		}
		if err = d.isolateSuspect(ctx, sup, err); err != nil {
			return err
		}
	}
}

// isolateSuspect returns err, or nil if what failed with it is to be tried again. Then sup is a
// supervisor of its own.
func (d *Driver) isolateSuspect(ctx context.Context, sup **supervisor, err error) error {
	costly, ok := errors.AsType[*connectionError](err)
	switch {
	case !ok, !isTransient(err) && ((*sup).dedicated || costly.certain):
		return err
	case (*sup).dedicated: // others have their turn, and the broker a pause
		ordinary, e := d.reserveChannel()
		if e != nil {
			return fmt.Errorf("%w: %w", e, err)
		}
		d.releaseChannel(*sup)
		*sup = ordinary
		sleep(ctx, turnPause)
	}
	own, e := d.dedicatedConnection(ctx)
	if e != nil {
		return fmt.Errorf("%w: %w", e, err)
	}
	if *sup != d.publisher {
		d.releaseChannel(*sup)
	}
	*sup = own
	return nil
}

// suspicion is how far an operation that shares its connection with all publishes is a suspect.
type suspicion uint8

const (
	innocent  suspicion = iota
	suspected           // tried once more
	isolated            // what it needs was declared apart, too
)

// finalErrorOnce is finalError for an operation that shares its connection with all publishes. s is
// how far it was a suspect before, and becomes how far it is now. What r leads through, unless r is
// nil, may be what the broker has trouble with: if that lasts, it is declared apart.
func (d *Driver) finalErrorOnce(ctx context.Context, conn *connection, err error, about string, r *route, s *suspicion) error {
	err = d.finalError(ctx, conn, err, about)
	costly, ok := errors.AsType[*connectionError](err)
	switch {
	case !ok, costly.certain:
		return err
	case *s == innocent:
		*s = suspected
		return nil
	case *s == suspected && r != nil && isTransient(err):
		*s = isolated
		if !r.p.To.Kind.IsExchange() && r.delayUnits == 0 {
			return nil // it declares nothing, so that others were the cause
		}
		return d.declareApart(ctx, *r, err) // a copy, which may escape to the heap
	}
	return err
}

// declareApart makes what r leads through exist on a connection of its own. err is what it has cost
// the connection of publishes.
func (d *Driver) declareApart(ctx context.Context, r route, err error) error {
	sup := d.publisher
	if err := d.isolateSuspect(ctx, &sup, err); err != nil {
		return err
	}
	defer func() { d.releaseChannel(sup) }()
	return d.withConnection(ctx, &sup, r.exchange, func(conn *connection) error { return conn.ensureRoute(ctx, &r) })
}

// dedicatedConnection returns a supervisor that nobody else uses, as soon as there may be one more.
func (d *Driver) dedicatedConnection(ctx context.Context) (*supervisor, error) {
	select {
	case d.dedicatedSlots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.ctx.Done():
		return nil, adapters.ErrClosed
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		<-d.dedicatedSlots
		return nil, adapters.ErrClosed
	}
	sup := newSupervisor(d, "consume")
	sup.used, sup.dedicated = 1, true
	d.consumers = append(d.consumers, sup)
	d.tasks.Go(func() { sup.run(nil) })
	return sup, nil
}

// shareConnection lets others use the connection of an operation that turned out to be innocent.
func (d *Driver) shareConnection(sup *supervisor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sup.dedicated {
		sup.dedicated = false
		<-d.dedicatedSlots
	}
}
