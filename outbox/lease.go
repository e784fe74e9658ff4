package outbox

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// lease is what makes one relay of all the leader. Its row in the database has the owner, and a
// count that the owner raises as long as it lives. Whoever sees the same count for long enough, by
// its own clock, takes over. So no clocks are compared, no lock is held while the broker is waited
// for, and a leader that is frozen or cut off is replaced as well as one that died. It may wake up
// and send what it had in hand once more: messages are published at least once, and each of two
// relays sends them in order, so that the first copies are in order.
type lease struct {
	box   *Box
	owner string
	held  bool
	said  time.Time // when it was said last

	seenOwner string
	seenBeat  int64
	seenAt    time.Time // when it was first seen so
}

// take makes this relay the leader if nobody else is, and there is a row that fits where.
func (l *lease) take(ctx context.Context, where string, args []any) (bool, error) {
	b := l.box
	ctx, cancel := context.WithTimeout(ctx, maxQuery)
	defer cancel()
	var owner string
	var beat int64
	var next sql.NullInt64
	err := b.db.QueryRowContext(ctx, b.query(
		"SELECT owner, beat, (SELECT id FROM %[1]s"+where+" ORDER BY id LIMIT 1) FROM %[1]s_leader WHERE id = 1"), args...).Scan(&owner, &beat, &next)
	if err != nil {
		return false, fmt.Errorf("looking for messages: %w", err)
	}
	if !next.Valid {
		return false, nil
	}
	if owner != "" && owner != l.owner {
		if owner != l.seenOwner || beat != l.seenBeat {
			l.seenOwner, l.seenBeat, l.seenAt = owner, beat, time.Now()
		}
		if time.Since(l.seenAt) < b.lease {
			return false, nil
		}
	}
	now := time.Now()
	result, err := b.db.ExecContext(ctx, b.query("UPDATE %s_leader SET owner = ?, beat = beat + 1"+b.dialect.unhurried()+" WHERE id = 1 AND owner = ? AND beat = ?"), l.owner, owner, beat)
	if err != nil {
		return false, fmt.Errorf("beginning to relay: %w", err)
	}
	n, err := result.RowsAffected()
	if l.held, l.said = err == nil && n == 1, now; l.held && owner != "" {
		b.log.InfoContext(ctx, "outbox: this process relays in the place of one that has stopped", "table", b.table)
	}
	return l.held, err
}

// execer is a *sql.DB or a *sql.Tx.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// isHeld reports whether this relay is the leader: not if it was frozen for as long as others wait.
func (l *lease) isHeld() bool {
	l.held = l.held && time.Since(l.said) < l.box.lease
	return l.held
}

// beat says that the leader lives or, with goOn false, lets another one be it.
func (l *lease) beat(ctx context.Context, in execer, goOn bool) error {
	now := time.Now()
	mine, err := l.say(ctx, in, goOn)
	if err != nil {
		return err
	}
	l.heard(ctx, now, mine)
	l.held = mine && goOn
	return nil
}

// say is beat for another goroutine. It reports whether this relay was the leader till then.
func (l *lease) say(ctx context.Context, in execer, goOn bool) (mine bool, err error) {
	next := ""
	if goOn {
		next = l.owner
	}
	result, err := in.ExecContext(ctx, l.box.query("UPDATE %s_leader SET owner = ?, beat = beat + 1 WHERE id = 1 AND owner = ?"), next, l.owner)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// heard takes note of what say has reported of a time.
func (l *lease) heard(ctx context.Context, at time.Time, mine bool) {
	if !mine && l.held {
		l.box.log.WarnContext(ctx, "outbox: another process has taken over relaying; messages that were in hand may be sent twice", "table", l.box.table)
	}
	l.held, l.said = mine, at
}
