package outbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

const (
	firstLook   = 2 * time.Millisecond  // after something was stored in this process
	linger      = 20 * time.Millisecond // how long a leader that has nothing to do keeps its place
	maxExcluded = 1000                  // destinations that a statement leaves out
)

// Run relays: it publishes on bus what is stored, and deletes it once the broker has it. It returns
// nil when ctx ends, after what is on its way; that takes a few seconds at most. It returns an
// error only for what no time mends: a bus that is closed, or was made with options that make no
// sense. What the database or the broker refuses it logs, and tries again.
//
// Any number of processes may run it for one table. One of them relays at a time, the others wait;
// if it stops, dies or is cut off from the database another goes on.
func (b *Box) Run(ctx context.Context, bus *patterns.Bus) error {
	if err := bus.Err(); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	r := &relay{box: b, bus: bus, lease: lease{box: b, owner: rand.Text()}, refusals: map[adapters.Endpoint]*refusal{}}
	defer r.stop(ctx)
	var failures int
	for ctx.Err() == nil {
		more, err := r.round(ctx)
		if err == nil && !more {
			err = r.wait(ctx)
		}
		switch {
		case errors.Is(err, adapters.ErrClosed):
			return fmt.Errorf("outbox: relaying: %w", err)
		case err != nil && ctx.Err() == nil:
			b.log.ErrorContext(ctx, "outbox: relaying", "table", b.table, "error", err)
			pause(ctx, backoff(failures, 100*time.Millisecond, 5*time.Second))
			failures++
			continue
		}
		failures = 0
	}
	return nil
}

// relay is one Run. Only its own goroutine uses it.
type relay struct {
	box      *Box
	bus      *patterns.Bus
	lease    lease
	refusals map[adapters.Endpoint]*refusal // destinations that refuse
	noting   *noting                        // what notes that messages were sent, or nil
	stays    time.Time                      // until when it keeps its place in any case
	look     time.Duration                  // until the next look of those in the moments after a store; 0: over
}

// refusal is a destination that has not taken a message.
type refusal struct {
	err   error
	since time.Time
	until time.Time // when it is tried again
	count int       // how often in turn
}

// stop ends what is under way, and gives up leadership.
func (r *relay) stop(ctx context.Context) {
	err := r.noted(ctx)
	if r.lease.held {
		err = errors.Join(err, r.leave(ctx))
	}
	if err != nil {
		r.box.log.WarnContext(ctx, "outbox: stopping", "table", r.box.table, "error", err)
	}
	r.tellWaiting(false)
}

// leave gives up leadership, also while ctx ends: else others would wait, and this relay would not
// know whether they do.
func (r *relay) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.box.settle)
	defer cancel()
	if err := r.lease.beat(ctx, r.box.db, false); err != nil {
		return fmt.Errorf("telling others that they may relay: %w", err)
	}
	return nil
}

// wait waits until there may be something to do.
func (r *relay) wait(ctx context.Context) error {
	b := r.box
	d := b.config.Poll
	var noted chan struct{}
	if r.noting != nil {
		noted = r.noting.over
	} else if r.lease.held {
		d = min(d, max(time.Until(r.stays), 0))
	}
	if r.look > 0 {
		d = min(d, r.look)
		if r.look *= 2; r.look >= b.config.Poll {
			r.look = 0
		}
	}
	for _, refused := range r.refusals {
		d = min(d, max(time.Until(refused.until), firstLook))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
			return nil
		case <-timer.C:
			return nil
		case <-noted:
			if err := r.noted(ctx); err != nil {
				return err
			}
			noted, r.stays = nil, time.Now().Add(linger)
			timer.Reset(min(d, linger))
		case <-b.stored:
			r.look, r.stays = 2*firstLook, time.Now().Add(linger)
			timer.Reset(min(d, firstLook))
		}
	}
}

// round sends one batch. more says that there is more to send at once.
func (r *relay) round(ctx context.Context) (more bool, err error) {
	if !r.lease.isHeld() {
		where, args := r.where()
		if leader, err := r.lease.take(ctx, where, args); err != nil || !leader {
			r.forget(nil)
			return false, err
		}
		r.tellWaiting(true)
	}
	rows, full, err := r.fetch(ctx)
	if err != nil {
		return false, fmt.Errorf("reading: %w", err)
	}
	if len(rows) == 0 && (r.noting != nil || time.Now().Before(r.stays)) {
		return false, nil
	}
	if len(rows) == 0 {
		r.forget(nil)
		r.tellWaiting(false)
		return false, r.leave(ctx)
	}
	lanes, err := r.publish(ctx, rows)
	for _, l := range lanes {
		r.remember(l)
	}
	err = errors.Join(err, r.noted(ctx))
	if !full && len(rows) <= maxAside && isAllSent(lanes) {
		r.note(ctx, lanes)
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.box.settle)
	defer cancel()
	parked, err2 := r.settle(ctx, lanes, full)
	if err2 != nil {
		return false, errors.Join(err, notNoted(err2))
	}
	for _, p := range parked {
		r.box.tellParked(ctx, p)
	}
	r.forget(lanes)
	r.tellWaiting(r.lease.held)
	return full && isProgress(lanes) || len(parked) > 0, err
}

// isProgress reports whether a batch has changed anything: else the next one would be the same.
func isProgress(lanes []*lane) bool {
	return slices.ContainsFunc(lanes, func(l *lane) bool { return len(l.sent)+len(l.faulty) > 0 || l.failed != nil })
}

// isAllSent reports whether every row was sent.
func isAllSent(lanes []*lane) bool {
	return !slices.ContainsFunc(lanes, func(l *lane) bool { return len(l.sent) < len(l.rows) })
}

// forget forgets destinations whose time to be tried again has come, if nothing waits for them.
func (r *relay) forget(lanes []*lane) {
	now := time.Now()
	for to, refused := range r.refusals {
		if now.After(refused.until) && !slices.ContainsFunc(lanes, func(l *lane) bool { return l.to == to }) {
			delete(r.refusals, to)
		}
	}
}

// excluded returns the destinations that are not to be read now, as the table has them.
func (r *relay) excluded() (names []any) {
	now := time.Now()
	for to, refused := range r.refusals {
		if len(names) < maxExcluded && now.Before(refused.until) {
			names = append(names, to.Kind.String()+":"+to.Name)
		}
	}
	return names
}

func (r *relay) where() (string, []any) {
	names := r.excluded()
	if len(names) == 0 {
		return "", nil
	}
	return " WHERE destination NOT IN (" + marks(len(names)) + ")", names
}

// fetch reads the oldest rows. full says that there may be more.
func (r *relay) fetch(ctx context.Context) (all []row, full bool, err error) {
	where, args := r.where()
	limit := r.box.config.Batch
	rows, err := r.box.db.QueryContext(ctx, r.box.query(fmt.Sprintf(
		"SELECT id, stored_at, destination, envelope, payload, attempts FROM %%s%s ORDER BY id LIMIT %d", where, limit)), args...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close() //nolint:errcheck // it was only read
	read, size := 0, 0
	for rows.Next() {
		var one row
		var storedAt int64
		if err := rows.Scan(&one.id, &storedAt, &one.to, &one.envelope, &one.payload, &one.attempts); err != nil {
			return nil, false, err
		}
		one.storedAt = time.UnixMicro(storedAt)
		if read++; !r.isSent(one.id) {
			all = append(all, one)
		}
		if size += len(one.payload) + len(one.envelope); size > maxBatchBytes {
			return all, true, nil
		}
	}
	return all, read == limit, rows.Err()
}

// publish sends rows, those of each destination in order, and returns when the outcome of each is
// known, or no longer waited for. Meanwhile it keeps the lease.
func (r *relay) publish(ctx context.Context, rows []row) ([]*lane, error) {
	var lanes []*lane
	byName := map[string]*lane{}
	for i := range rows {
		one := &rows[i]
		l := byName[one.to]
		if l == nil {
			l = &lane{relay: r, name: one.to}
			l.to, _ = parseDestination(one.to) // or each row says what is wrong
			if refused := r.refusals[l.to]; refused != nil {
				l.refusedBefore = true
			}
			byName[one.to] = l
			lanes = append(lanes, l)
		}
		l.rows = append(l.rows, one)
	}
	var running sync.WaitGroup
	for _, l := range lanes {
		running.Go(func() { l.run(ctx) })
	}
	over := make(chan struct{})
	go func() { running.Wait(); close(over) }()
	beats := time.NewTicker(r.box.lease / 3)
	defer beats.Stop()
	for {
		select {
		case <-over:
			return lanes, closedError(lanes)
		case <-beats.C:
			within, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.box.lease)
			if err := r.lease.beat(within, r.box.db, true); err != nil {
				r.box.log.WarnContext(ctx, "outbox: not told others that this process relays", "error", err)
			}
			cancel()
		}
	}
}

// closedError returns the error of a bus that is closed, if there is one.
func closedError(lanes []*lane) error {
	for _, l := range lanes {
		if errors.Is(l.failure, adapters.ErrClosed) {
			return l.failure
		}
	}
	return nil
}

// settle notes the outcomes in the database: what is sent is deleted, what cannot be is parked. If
// this relay is no longer the leader that is as true as before.
func (r *relay) settle(ctx context.Context, lanes []*lane, goOn bool) (parked []Parked, err error) {
	b := r.box
	var sent []int64
	for _, l := range lanes {
		sent = append(sent, l.sent...)
	}
	tx, err := b.db.BeginTx(ctx, b.dialect.txOptions())
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // it is committed by then, or all will be sent again
	if err := r.lease.beat(ctx, tx, goOn); err != nil {
		return nil, err
	}
	if err := b.remove(ctx, tx, "", sent); err != nil {
		return nil, err
	}
	for _, l := range lanes {
		if l.failed != nil && l.counts {
			if _, err := tx.ExecContext(ctx, b.query("UPDATE %s SET attempts = attempts + 1, error = ? WHERE id = ?"), text(l.failure.Error()), l.failed.id); err != nil {
				return nil, err
			}
		}
		for _, f := range l.faulty {
			p, err := b.park(ctx, tx, f.row, f.err)
			if err != nil {
				return nil, err
			}
			if p.ID != 0 {
				parked = append(parked, p)
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	b.sent.Add(uint64(len(sent)))
	b.parked.Add(uint64(len(parked)))
	return parked, nil
}

// remember notes whether a destination refuses, and when to try it again.
func (r *relay) remember(l *lane) {
	if l.failed == nil {
		delete(r.refusals, l.to)
		return
	}
	refused := r.refusals[l.to]
	if refused == nil {
		refused = &refusal{since: time.Now()}
		r.refusals[l.to] = refused
	}
	refused.err = l.failure
	first, most := waitAfter(l.failure)
	refused.until = time.Now().Add(backoff(refused.count, first, most))
	if refused.count++; refused.count == 1 || refused.count%10 == 0 {
		r.box.log.Warn("outbox: a destination takes no messages, they wait", "to", l.to.String(), "tries", refused.count, "error", l.failure)
	}
}

// remove deletes rows, of the outbox or what suffix says.
func (b *Box) remove(ctx context.Context, in execer, suffix string, ids []int64) error {
	for chunk := range slices.Chunk(ids, 512) {
		n := 1 // few lengths, so that few statements are prepared
		for n < len(chunk) {
			n *= 2
		}
		args := make([]any, n)
		for i := range args {
			args[i] = chunk[min(i, len(chunk)-1)]
		}
		if _, err := in.ExecContext(ctx, b.query("DELETE FROM %s"+suffix+" WHERE id IN ("+marks(n)+")"), args...); err != nil {
			return err
		}
	}
	return nil
}

// backoff returns how long to wait after so many failures.
func backoff(failures int, first, most time.Duration) time.Duration {
	return min(first<<min(failures, 16), most)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
