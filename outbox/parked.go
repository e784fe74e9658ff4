package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Parked is a message that the relay could not send, for a fault of its own.
type Parked struct {
	ID       int64             // of its row, for [Box.Resend] and [Box.Discard]
	To       adapters.Endpoint // where it was to go
	Message  string            // its id
	Headers  map[string]string
	Payload  []byte // as it was to travel: encoded, and compressed if it was
	StoredAt time.Time
	ParkedAt time.Time
	Attempts int    // how often it was tried
	Reason   string // the error of the last one
}

// park moves a row to where it is in nobody's way. It returns the zero Parked if the row is gone.
func (b *Box) park(ctx context.Context, tx *sql.Tx, r *row, reason error) (Parked, error) {
	now := time.Now()
	result, err := tx.ExecContext(ctx, b.query("DELETE FROM %s WHERE id = ?"), r.id)
	if err != nil {
		return Parked{}, err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 { // another relay was faster
		return Parked{}, err
	}
	_, err = tx.ExecContext(ctx,
		b.query("INSERT INTO %s_parked (id, stored_at, destination, envelope, payload, attempts, error, parked_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"),
		r.id, r.storedAt.UnixMicro(), r.to, r.envelope, r.payload, r.attempts+1, text(reason.Error()), now.UnixMicro())
	return parkedOf(r, text(reason.Error()), r.attempts+1, now), err
}

func parkedOf(r *row, reason string, attempts int, at time.Time) Parked {
	var e envelope
	_ = json.Unmarshal([]byte(r.envelope), &e) // its reason may be that this fails
	to, err := parseDestination(r.to)
	if err != nil {
		to.Name = r.to
	}
	return Parked{r.id, to, e.ID, e.Headers, r.payload, r.storedAt, at, attempts, reason}
}

func (b *Box) tellParked(ctx context.Context, p Parked) {
	b.log.ErrorContext(ctx, "outbox: a message cannot be sent and is parked", "table", b.table, "row", p.ID, "to", p.To.String(), "id", clip(p.Message, 64), "reason", p.Reason)
	if b.config.OnPark == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			b.log.ErrorContext(ctx, "outbox: OnPark panicked", "panic", v)
		}
	}()
	b.config.OnPark(ctx, p)
}

// Parked returns the parked messages with an ID above after, in their order and limit of them at
// most. Begin with 0, and go on with the last one's ID.
func (b *Box) Parked(ctx context.Context, after int64, limit int) ([]Parked, error) {
	rows, err := b.db.QueryContext(ctx, b.query(fmt.Sprintf(
		"SELECT id, stored_at, destination, envelope, payload, attempts, error, parked_at FROM %%s_parked WHERE id > ? ORDER BY id LIMIT %d", limit)), after)
	if err != nil {
		return nil, fmt.Errorf("outbox: reading what is parked: %w", err)
	}
	defer rows.Close() //nolint:errcheck // it was only read
	var all []Parked
	for rows.Next() {
		var r row
		var storedAt, parkedAt int64
		var reason string
		if err := rows.Scan(&r.id, &storedAt, &r.to, &r.envelope, &r.payload, &r.attempts, &reason, &parkedAt); err != nil {
			return nil, fmt.Errorf("outbox: reading what is parked: %w", err)
		}
		r.storedAt = time.UnixMicro(storedAt)
		all = append(all, parkedOf(&r, reason, r.attempts, time.UnixMicro(parkedAt)))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("outbox: reading what is parked: %w", err)
	}
	return all, nil
}

// Resend puts parked messages back into the outbox, behind all that waits there, with all their
// attempts, and returns how many of ids were parked.
func (b *Box) Resend(ctx context.Context, ids ...int64) (int, error) {
	n, err := b.unpark(ctx, ids, true)
	if err != nil {
		return 0, fmt.Errorf("outbox: sending again what is parked: %w", err)
	}
	b.Wake()
	return n, nil
}

// Discard deletes parked messages, and returns how many of ids were parked.
func (b *Box) Discard(ctx context.Context, ids ...int64) (int, error) {
	n, err := b.unpark(ctx, ids, false)
	if err != nil {
		return 0, fmt.Errorf("outbox: discarding what is parked: %w", err)
	}
	return n, nil
}

func (b *Box) unpark(ctx context.Context, ids []int64, resend bool) (int, error) {
	tx, err := b.db.BeginTx(ctx, b.dialect.txOptions())
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() //nolint:errcheck // it is committed by then, or nothing has changed
	moved := 0
	for _, id := range slices.Sorted(slices.Values(ids)) {
		var r row
		var storedAt int64
		err := tx.QueryRowContext(ctx, b.query("SELECT stored_at, destination, envelope, payload FROM %s_parked WHERE id = ?"), id).
			Scan(&storedAt, &r.to, &r.envelope, &r.payload)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		} else if err != nil {
			return 0, err
		}
		result, err := tx.ExecContext(ctx, b.query("DELETE FROM %s_parked WHERE id = ?"), id)
		if err != nil {
			return 0, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		if n == 0 { // somebody else was faster
			continue
		}
		if moved++; !resend {
			continue
		}
		_, err = tx.ExecContext(ctx, b.query("INSERT INTO %s (stored_at, destination, envelope, payload) VALUES (?, ?, ?, ?)"), storedAt, r.to, r.envelope, r.payload)
		if err != nil {
			return 0, err
		}
	}
	return moved, tx.Commit()
}
