package outbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

const (
	firstLook   = 2 * time.Millisecond  // after something was stored in this process
	linger      = 20 * time.Millisecond // how long a leader that has nothing to do keeps its place
	maxExcluded = 1000                  // destinations that a statement leaves out
	grace       = time.Second           // how long destinations wait for one that does not answer
	maxQuery    = 30 * time.Second      // that the relay waits for an answer of the database
	maxPatient  = 16                    // times Box.patient is how long such a one is waited for at most
)

// Run relays: it publishes on bus what is stored, and deletes it once the broker has it. It returns
// nil when ctx ends, after what is on its way; that takes a few seconds at most, or half a minute
// where the database does not answer. It returns an error only for what no time mends: a bus that
// is closed, or was made with options that make no sense. What the database or the broker refuses
// it logs, and tries again.
//
// Any number of processes may run it for one table. One of them relays at a time, the others wait;
// if it stops, dies or is cut off from the database another goes on.
func (b *Box) Run(ctx context.Context, bus *patterns.Bus) error {
	if err := bus.Err(); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	r := &relay{
		box: b, bus: bus, lease: lease{box: b, owner: rand.Text()},
		refusals: map[adapters.Endpoint]*refusal{}, ended: make(chan struct{}, 1), writing: make(chan struct{}, 1),
	}
	ctx, end := context.WithCancel(ctx)
	defer r.stop(ctx)
	defer end()
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
	left     []*lane                        // that are not over, and are not waited for
	ended    chan struct{}                  // one of them is
	writing  chan struct{}                  // full while a transaction is under way
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

	left    bool          // what was published to it before is still on its way: it gets nothing more
	patient time.Duration // how long it is waited for
}

// stop ends what is under way, and gives up leadership.
func (r *relay) stop(ctx context.Context) {
	r.await(ctx, r.left, nil)
	err := errors.Join(r.collect(ctx), r.noted(ctx))
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
	} else if r.lease.held && len(r.left) == 0 {
		d = min(d, max(time.Until(r.stays), 0))
	}
	if len(r.left) > 0 {
		d = min(d, b.lease/3) // it keeps its place
	}
	if r.look > 0 {
		d = min(d, r.look)
		if r.look *= 2; r.look >= b.config.Poll {
			r.look = 0
		}
	}
	for _, refused := range r.refusals {
		if !refused.left {
			d = min(d, max(time.Until(refused.until), firstLook))
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
			return nil
		case <-r.ended:
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
	if r.noting == nil {
		if err := r.written(ctx); err != nil {
			return false, err
		}
	}
	if err := r.collect(ctx); err != nil {
		return false, err
	}
	if !r.lease.isHeld() {
		where, args := r.where()
		if leader, err := r.lease.take(ctx, where, args); err != nil || !leader {
			r.forget(nil)
			return false, err
		}
		r.tellWaiting(true)
	} else if len(r.left) > 0 && time.Since(r.lease.said) >= r.box.lease/3 {
		r.beat(ctx)
	}
	rows, full, err := r.fetch(ctx)
	if err != nil {
		return false, fmt.Errorf("reading: %w", err)
	}
	if len(rows) == 0 && (r.noting != nil || len(r.left) > 0 || time.Now().Before(r.stays)) {
		return false, nil
	}
	if len(rows) == 0 {
		r.forget(nil)
		r.tellWaiting(false)
		return false, r.leave(ctx)
	}
	before := len(r.left)
	lanes, err := r.publish(ctx, rows)
	err = errors.Join(err, r.noted(ctx))
	if !full && len(rows) <= maxAside && isAllSent(lanes) {
		for _, l := range lanes {
			r.remember(l)
		}
		r.note(ctx, lanes)
		r.tellWaiting(r.lease.held)
		return false, err
	}
	parked, err2 := r.conclude(ctx, lanes, full || len(r.left) > 0)
	more = full && (isProgress(lanes) || len(r.left) > before) || parked > 0
	return more && err2 == nil, errors.Join(err, err2)
}

// collect notes what became of lanes that were left, and are over.
func (r *relay) collect(ctx context.Context) error {
	var over []*lane
	r.left = slices.DeleteFunc(r.left, func(l *lane) bool {
		select {
		case <-l.over:
			over = append(over, l)
			return true
		default:
			return false
		}
	})
	if len(over) == 0 {
		return nil
	}
	err := r.noted(ctx)
	_, err2 := r.conclude(ctx, over, true)
	return errors.Join(err, err2, closedError(over))
}

// conclude notes the outcomes of lanes, and returns how many rows it has parked.
func (r *relay) conclude(ctx context.Context, lanes []*lane, goOn bool) (int, error) {
	for _, l := range lanes {
		r.remember(l)
	}
	var parked []Parked
	var mine bool
	begun := time.Now()
	err := r.write(ctx, func(ctx context.Context) (err error) {
		parked, mine, err = r.settle(ctx, lanes, goOn)
		return err
	})
	if err != nil {
		return 0, notNoted(err)
	}
	r.lease.heard(ctx, begun, mine)
	r.lease.held = mine && goOn
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.box.settle)
	defer cancel()
	for _, p := range parked {
		r.box.tellParked(ctx, p)
	}
	r.forget(lanes)
	r.tellWaiting(r.lease.held)
	return len(parked), nil
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
		if !refused.left && now.After(refused.until) && !slices.ContainsFunc(lanes, func(l *lane) bool { return l.to == to }) {
			delete(r.refusals, to)
		}
	}
}

// excluded returns the destinations that are not to be read now, as the table has them.
func (r *relay) excluded() (names []any) {
	now := time.Now()
	for to, refused := range r.refusals {
		if len(names) < maxExcluded && (refused.left || now.Before(refused.until)) {
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
func (r *relay) fetch(ctx context.Context) (all []*row, full bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxQuery)
	defer cancel()
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
		one := &row{} // alone in memory: some are needed for longer than others
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

// publish sends rows, those of each destination in order, and returns the lanes of which each
// outcome is known, or no longer waited for. Those that take long are left: the others go on.
func (r *relay) publish(ctx context.Context, rows []*row) (over []*lane, err error) {
	var lanes []*lane
	byName := map[string]*lane{}
	for _, one := range rows {
		l := byName[one.to]
		if l == nil {
			l = &lane{relay: r, patient: r.box.patient, over: make(chan struct{})}
			l.to, _ = parseDestination(one.to) // or each row says what is wrong
			byName[one.to] = l
			refused := r.refusals[l.to]
			if l.refusedBefore = refused != nil; l.refusedBefore {
				l.patient = max(l.patient, refused.patient)
			}
			if refused == nil || !refused.left { // which it still is where too many destinations refuse
				lanes = append(lanes, l)
			}
		}
		l.rows = append(l.rows, one)
	}
	for _, l := range lanes {
		go func() { l.run(ctx); signal(r.ended) }()
	}
	enough := time.NewTimer(grace)
	defer enough.Stop()
	r.await(ctx, lanes, enough.C)
	for _, l := range lanes {
		if !l.leave() {
			over = append(over, l)
			continue
		}
		r.left = append(r.left, l)
		refused := r.refusals[l.to]
		if refused == nil {
			refused = &refusal{err: errNoAnswer, since: time.Now()}
			r.refusals[l.to] = refused
		}
		refused.left = true
	}
	return over, closedError(over)
}

// await waits until the lanes are over, or it is enough. Meanwhile it keeps the lease.
func (r *relay) await(ctx context.Context, lanes []*lane, enough <-chan time.Time) {
	beats := time.NewTicker(r.box.lease / 3)
	defer beats.Stop()
	for len(lanes) > 0 {
		select {
		case <-lanes[0].over:
			lanes = lanes[1:]
		case <-beats.C:
			r.beat(ctx)
		case <-enough:
			return
		}
	}
}

// beat keeps the lease, also while ctx ends.
func (r *relay) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.box.lease)
	defer cancel()
	if err := r.lease.beat(ctx, r.box.db, true); err != nil {
		r.box.log.WarnContext(ctx, "outbox: not told others that this process relays", "error", err)
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
// this relay is no longer the leader that is as true as before; mine says whether it was. It is
// called by another goroutine: see write.
func (r *relay) settle(ctx context.Context, lanes []*lane, goOn bool) (parked []Parked, mine bool, err error) {
	b := r.box
	var sent []int64
	for _, l := range lanes {
		sent = append(sent, l.sent...)
	}
	tx, err := b.db.BeginTx(ctx, b.dialect.txOptions())
	if err != nil {
		return nil, false, err
	}
	defer tx.Rollback() //nolint:errcheck // it is committed by then, or all will be sent again
	if mine, err = r.lease.say(ctx, tx, goOn); err != nil {
		return nil, false, err
	}
	if err := b.remove(ctx, tx, "", sent); err != nil {
		return nil, false, err
	}
	for _, l := range lanes {
		if l.failed != nil && l.counts {
			if _, err := tx.ExecContext(ctx, b.query("UPDATE %s SET attempts = attempts + 1, error = ? WHERE id = ?"), text(l.failure.Error()), l.failed.id); err != nil {
				return nil, false, err
			}
		}
		for _, f := range l.faulty {
			p, err := b.park(ctx, tx, f.row, f.err)
			if err != nil {
				return nil, false, err
			}
			if p.ID != 0 {
				parked = append(parked, p)
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, false, err
	}
	b.sent.Add(uint64(len(sent)))
	b.parked.Add(uint64(len(parked)))
	return parked, mine, nil
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
	refused.err, refused.left = l.failure, false
	if errors.Is(l.failure, errNoAnswer) { // each try leaves a copy on its way
		refused.patient = min(2*l.patient, maxPatient*r.box.patient)
	} else {
		refused.patient = 0
	}
	first, most := waitAfter(l.failure)
	refused.until = time.Now().Add(backoff(refused.count, first, most))
	if refused.count++; refused.count == 1 || refused.count%10 == 0 {
		r.box.log.Warn("outbox: a destination takes no messages, they wait", "to", l.to.String(), "tries", refused.count, "error", l.failure)
	}
}

// remove deletes rows, of the outbox or what suffix says.
func (b *Box) remove(ctx context.Context, in execer, suffix string, ids []int64) error {
	for chunk := range slices.Chunk(ids, b.dialect.maxDeleted()) {
		n := 1 // few lengths, so that few statements are prepared
		for n < len(chunk) {
			n *= 2
		}
		args := make([]any, n)
		for i := range args {
			args[i] = chunk[min(i, len(chunk)-1)]
		}
		if _, err := in.ExecContext(ctx, b.query(b.dialect.deletion("%s"+suffix, n)), args...); err != nil {
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
