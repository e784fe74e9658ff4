package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxAside is how many rows are noted aside. The relay reads them once more and steps over them.
const maxAside = 64

// noting is a transaction that notes what was sent while the relay goes on, so that a message that
// comes just then does not wait for the database to write.
type noting struct {
	sent  []int64
	begun time.Time
	over  chan struct{} // closed when what follows is known
	mine  bool          // this relay was still the leader
	err   error
}

// note begins one, for lanes of which all was sent. None is under way: see noted.
func (r *relay) note(ctx context.Context, lanes []*lane) {
	var sent []int64
	for _, l := range lanes {
		sent = append(sent, l.sent...)
	}
	n := &noting{sent: sent, begun: time.Now(), over: make(chan struct{})}
	r.noting = n
	go func() {
		defer close(n.over)
		var mine bool
		n.err = r.write(ctx, func(ctx context.Context) (err error) {
			mine, err = r.delete(ctx, sent)
			return err
		})
		if n.err == nil {
			n.mine = mine
		}
	}()
}

// errStuck says that the database was not heard of.
var errStuck = errors.New("the database does not answer")

// write runs a transaction, also while ctx ends, and waits for it for as long as it may take:
// drivers need not heed a ctx in a commit or a rollback, and some do not. If it commits later, what
// it says is as true. After an error, what f writes must not be read.
func (r *relay) write(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.box.settle)
	select {
	case r.writing <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return errStuck
	}
	result := make(chan error, 1)
	go func() {
		defer cancel()
		err := f(ctx)
		<-r.writing
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errStuck, ctx.Err())
	}
}

// written waits until no transaction is under way. Without it messages would be sent again and
// again while the database does not answer.
func (r *relay) written(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.box.settle)
	defer cancel()
	select {
	case r.writing <- struct{}{}:
		<-r.writing
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a commit: %w", errStuck)
	}
}

// delete deletes rows that were sent, and says that the leader lives. It reports whether it was
// still this relay.
func (r *relay) delete(ctx context.Context, sent []int64) (mine bool, err error) {
	b := r.box
	tx, err := b.db.BeginTx(ctx, b.dialect.txOptions())
	if err != nil {
		return false, err
	}
	defer tx.Rollback() //nolint:errcheck // it is committed by then, or all will be sent again
	if mine, err = r.lease.say(ctx, tx, true); err != nil {
		return false, err
	}
	if err := b.remove(ctx, tx, "", sent); err != nil {
		return false, err
	}
	if err := tx.Commit(); err != nil {
		return false, err
	}
	b.sent.Add(uint64(len(sent)))
	return mine, nil
}

// noted waits for what note has begun, if anything.
func (r *relay) noted(ctx context.Context) error {
	n := r.noting
	if n == nil {
		return nil
	}
	<-n.over
	r.noting = nil
	if n.err != nil {
		return notNoted(n.err)
	}
	r.lease.heard(ctx, n.begun, n.mine)
	return nil
}

// isSent reports whether a row is being deleted.
func (r *relay) isSent(id int64) bool { return r.noting != nil && slices.Contains(r.noting.sent, id) }

func notNoted(err error) error {
	return fmt.Errorf("noting what was sent, which may be sent again: %w", err)
}
