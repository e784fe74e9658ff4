package middleware_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"strings"
	"sync"
	"time"
)

// fakeDB is a database with two tables, motif_once and effects, as far as the tests need them. As
// in real ones, an insert of a key that another transaction has inserted waits until that one ends.
type fakeDB struct {
	mu      sync.Mutex
	once    map[string]*fakeRow
	effects []string

	failCommits   int // the next ones commit, and say that they did not
	refuseCommits int // the next ones roll back
}

type fakeRow struct {
	tx *fakeTx // nil: committed
	at time.Time
}

var errUnique = errors.New("fake: duplicate key")

func newFakeDB() (*fakeDB, *sql.DB) {
	f := &fakeDB{once: map[string]*fakeRow{}}
	return f, sql.OpenDB(f)
}

func (f *fakeDB) committed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.effects...)
}

func (f *fakeDB) Connect(context.Context) (driver.Conn, error) { return &fakeConn{db: f}, nil }
func (f *fakeDB) Driver() driver.Driver                        { return nil }

type fakeConn struct {
	db *fakeDB
	tx *fakeTx
}

type fakeTx struct {
	conn    *fakeConn
	keys    []string
	effects []string
	over    chan struct{}
}

func (c *fakeConn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("fake: no statements")
}
func (c *fakeConn) Close() error { return nil }
func (c *fakeConn) Begin() (driver.Tx, error) {
	c.tx = &fakeTx{conn: c, over: make(chan struct{})}
	return c.tx, nil
}

func (t *fakeTx) Commit() error {
	db := t.conn.db
	if t.refused() {
		return errors.Join(errors.New("fake: serialization failure"), t.Rollback())
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, key := range t.keys {
		db.once[key].tx = nil
	}
	db.effects = append(db.effects, t.effects...)
	t.conn.tx = nil
	close(t.over)
	if db.failCommits > 0 {
		db.failCommits--
		return errors.New("fake: connection lost in a commit")
	}
	return nil
}

func (t *fakeTx) refused() bool {
	db := t.conn.db
	db.mu.Lock()
	defer db.mu.Unlock()
	db.refuseCommits--
	return db.refuseCommits >= 0
}

func (t *fakeTx) Rollback() error {
	db := t.conn.db
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, key := range t.keys {
		delete(db.once, key)
	}
	t.conn.tx = nil
	close(t.over)
	return nil
}

func keyOf(args []driver.NamedValue) string {
	return args[0].Value.(string) + "\x00" + args[1].Value.(string)
}

func (c *fakeConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	db := c.db
	db.mu.Lock()
	defer db.mu.Unlock()
	switch {
	case strings.HasPrefix(query, "INSERT INTO effects"):
		c.tx.effects = append(c.tx.effects, args[0].Value.(string))
		return driver.RowsAffected(1), nil
	case strings.HasPrefix(query, "DELETE FROM motif_once"):
		n := 0
		for key, row := range db.once {
			if row.tx == nil && row.at.Before(args[0].Value.(time.Time)) {
				delete(db.once, key)
				n++
			}
		}
		return driver.RowsAffected(n), nil
	case strings.HasPrefix(query, "INSERT INTO motif_once"):
		for {
			row := db.once[keyOf(args)]
			switch {
			case row == nil:
				db.once[keyOf(args)] = &fakeRow{tx: c.tx, at: args[2].Value.(time.Time)}
				c.tx.keys = append(c.tx.keys, keyOf(args))
				return driver.RowsAffected(1), nil
			case row.tx == nil:
				return nil, errUnique
			}
			over := row.tx.over
			db.mu.Unlock()
			select {
			case <-over:
			case <-ctx.Done():
			}
			db.mu.Lock()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	return nil, errors.New("fake: " + query)
}

func (c *fakeConn) QueryContext(_ context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if !strings.HasPrefix(query, "SELECT COUNT(*) FROM motif_once WHERE") {
		return nil, errors.New("fake: " + query)
	}
	c.db.mu.Lock()
	defer c.db.mu.Unlock()
	var n int64
	if row := c.db.once[keyOf(args)]; row != nil && (row.tx == nil || row.tx == c.tx) {
		n = 1
	}
	return &fakeRows{n: n}, nil
}

type fakeRows struct {
	n    int64
	done bool
}

func (r *fakeRows) Columns() []string { return []string{"count"} }
func (r *fakeRows) Close() error      { return nil }
func (r *fakeRows) Next(dest []driver.Value) error {
	if r.done {
		return io.EOF
	}
	dest[0], r.done = r.n, true
	return nil
}
