package middleware

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// SQLConfig says where an [SQLStore] keeps what it remembers.
type SQLConfig struct {
	// Table is its table, "motif_once" if it is empty:
	//
	//	CREATE TABLE motif_once (
	//		queue      VARCHAR(255) NOT NULL,
	//		id         VARCHAR(255) NOT NULL,
	//		handled_at TIMESTAMP    NOT NULL,
	//		PRIMARY KEY (queue, id)
	//	)
	//
	// The primary key is what keeps a message from being handled twice at a time.
	Table string

	// Placeholder returns the n-th parameter of a statement, from 1, as the database writes it.
	// Without it that is a question mark; [Dollar] is for PostgreSQL.
	Placeholder func(n int) string

	// Tx is how transactions are begun; nil is the driver's default.
	Tx *sql.TxOptions
}

// Dollar returns $1, $2 and so on, as PostgreSQL writes parameters.
func Dollar(n int) string { return fmt.Sprintf("$%d", n) }

// SQLStore is a [Store] in a database. The handler runs in the transaction that records that the
// message was handled, and gets it from [TxFrom]: what it writes there is committed if and only if
// the message is remembered, so that its effect there happens once. It is safe for concurrent use.
type SQLStore struct {
	db                     *sql.DB
	opts                   *sql.TxOptions
	find, insert, deleteOf string
}

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

// NewSQLStore returns a store in db, in which the table must exist.
func NewSQLStore(db *sql.DB, c SQLConfig) (*SQLStore, error) {
	c.Table = cmp.Or(c.Table, "motif_once")
	if db == nil || !tableName.MatchString(c.Table) {
		return nil, fmt.Errorf("%w: SQLStore with table %q of database %v", adapters.ErrInvalid, c.Table, db)
	}
	p := c.Placeholder
	if p == nil {
		p = func(int) string { return "?" }
	}
	return &SQLStore{
		db: db, opts: c.Tx,
		find:     fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE queue = %s AND id = %s", c.Table, p(1), p(2)),
		insert:   fmt.Sprintf("INSERT INTO %s (queue, id, handled_at) VALUES (%s, %s, %s)", c.Table, p(1), p(2), p(3)),
		deleteOf: fmt.Sprintf("DELETE FROM %s WHERE handled_at < %s", c.Table, p(1)),
	}, nil
}

type txKey struct{}

// errBatch is for a handler of many messages, each of which would have a transaction: it could
// write in none of them, and they would wait for each other.
var errBatch = errors.New("motif: Once with an SQLStore is not for batches")

// TxFrom returns the transaction that the handler runs in, from its ctx. It is not the handler's to
// commit or roll back.
func TxFrom(ctx context.Context) (*sql.Tx, bool) {
	tx, ok := ctx.Value(txKey{}).(*sql.Tx)
	return tx, ok
}

// Do implements [Store]. What the database refuses is an error like any other: the message is tried
// again.
func (s *SQLStore) Do(ctx context.Context, key Key, handle func(ctx context.Context) error) error {
	if from, _ := patterns.OriginFrom(ctx); from.Batch {
		return patterns.Requeue(errBatch)
	}
	tx, err := s.db.BeginTx(ctx, s.opts)
	if err != nil {
		return fmt.Errorf("beginning the transaction of a message: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // it is committed by then, or the message tried again
	if key.ID != "" {
		if err := s.note(ctx, tx, key); err != nil {
			return err
		}
	}
	if err := handle(context.WithValue(ctx, txKey{}, tx)); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing the transaction of a message: %w", err)
	}
	return nil
}

// note writes down that the message is handled, before it is: who else has it in hand waits here
// until this transaction ends, by the rules of primary keys.
func (s *SQLStore) note(ctx context.Context, tx *sql.Tx, key Key) error {
	if err := s.look(ctx, tx, key); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, s.insert, key.Queue, key.ID, time.Now().UTC())
	if err == nil {
		return nil
	}
	// Each database has another error for a key that is there already: look whether it is.
	_ = tx.Rollback()
	if found := s.look(ctx, s.db, key); errors.Is(found, ErrDuplicate) {
		return found
	}
	return fmt.Errorf("noting a message: %w", err)
}

// look returns ErrDuplicate if the message was handled.
func (s *SQLStore) look(ctx context.Context, in interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, key Key,
) error {
	var n int
	if err := in.QueryRowContext(ctx, s.find, key.Queue, key.ID).Scan(&n); err != nil {
		return fmt.Errorf("looking for a message: %w", err)
	}
	if n > 0 {
		return ErrDuplicate
	}
	return nil
}

// Forget removes the messages that were handled before a time, and returns how many they were. The
// table grows until the program calls it. A duplicate that comes after that is handled again.
func (s *SQLStore) Forget(ctx context.Context, before time.Time) (int64, error) {
	result, err := s.db.ExecContext(ctx, s.deleteOf, before.UTC())
	if err != nil {
		return 0, fmt.Errorf("forgetting messages: %w", err)
	}
	return result.RowsAffected()
}
