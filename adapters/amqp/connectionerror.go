package amqp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// The broker closes the connection for some operations that it does not like, and all that goes on
// there ends with it. It says why, but not always for what. So:
//
//   - An operation whose queue or exchange it names ends with that as its error, at once.
//   - Each other that was under way is a suspect, and is tried once more, with a connection of
//     its own. If that is closed, too, it was it, and nobody else has paid again.
//   - Publishes share a connection, and so does what they declare, which is tried once more there.
//
// What the broker calls an internal error passes, as that a new queue is not ready. It is tried
// again for as long as its ctx allows, on its own connection.

// connectionError is of an operation that the broker may have closed the connection for.
type connectionError struct {
	why     *frame.CloseError
	certain bool // the broker names what it was about
}

func (e *connectionError) Error() string {
	return fmt.Sprintf("%v: the broker closed the connection: %v", sentinel(e.why), e.why)
}

func (e *connectionError) Unwrap() []error { return []error{sentinel(e.why), e.why} }

// maxDedicated bounds the connections for operations that may cost them.
const maxDedicated = 4

// connectionError is on what was under way with a queue or exchange when the session ended. It is nil if that had
// nothing to do with any operation.
func (conn *connection) connectionError(about string) error {
	c := conn.mux.ClientFault()
	if c == nil {
		return nil
	}
	named := strings.Contains(c.Err.Reason, "queue '"+about+"' in ") || strings.Contains(c.Err.Reason, "exchange '"+about+"' in ")
	return &connectionError{c, named}
}

// isTransient reports whether what costs the connection may do so no more.
func isTransient(err error) bool {
	return errors.Is(err, adapters.ErrUnavailable) && !errors.Is(err, ErrLimit)
}

// withConnection runs f in a session of l, and in the next one if that is lost meanwhile. If it may have cost
// the session, it puts a link of its own in place of l. about is the queue that f is about.
func (d *Driver) withConnection(ctx context.Context, l **supervisor, about string, f func(*connection) error) error {
	for {
		conn, err := (*l).connection(ctx)
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
		if err = d.isolateSuspect(ctx, l, err); err != nil {
			return err
		}
	}
}

// isolateSuspect returns err, or nil if what failed with it is to be tried again: then l is a link of its own.
func (d *Driver) isolateSuspect(ctx context.Context, l **supervisor, err error) error {
	costly, ok := errors.AsType[*connectionError](err)
	switch {
	case !ok, !isTransient(err) && ((*l).dedicated || costly.certain):
		return err
	case (*l).dedicated:
		return nil
	}
	own, e := d.dedicatedConnection(ctx)
	if e != nil {
		return fmt.Errorf("%w: %w", e, err)
	}
	if *l != d.publisher {
		d.releaseChannel(*l)
	}
	*l = own
	return nil
}

// retryOnce is retry for what shares its connection with all publishes. suspected is whether it
// was a suspect before.
func (d *Driver) finalErrorOnce(ctx context.Context, conn *connection, err error, about string, suspected *bool) error {
	err = d.finalError(ctx, conn, err, about)
	if costly, ok := errors.AsType[*connectionError](err); ok && !*suspected && !costly.certain {
		*suspected = true
		return nil
	}
	return err
}

// dedicatedConnection returns a link that nobody else uses, as soon as there may be one more.
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

// shareConnection lets others use the link of what has turned out to be innocent.
func (d *Driver) shareConnection(sup *supervisor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sup.dedicated {
		sup.dedicated = false
		<-d.dedicatedSlots
	}
}
