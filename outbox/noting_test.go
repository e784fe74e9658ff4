//go:build unix

package outbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// lockFirst stores a message, and keeps its row from being deleted until it is told to let go. What
// is locked can be read in these databases.
func lockFirst(x *trial, q *patterns.WorkQueue[int]) (letGo func()) {
	x.Helper()
	must(x, x.box.Do(x.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.Send(ctx, 1) }))
	tx, err := x.db.BeginTx(x.Context(), nil)
	must(x, err)
	var id int64
	must(x, tx.QueryRowContext(x.Context(), "SELECT id FROM motif_outbox WHERE id = 1 FOR UPDATE").Scan(&id))
	return func() { must(x, tx.Rollback()) }
}

// A message is sent while the database is still at work on the one before it, which is not sent
// twice.
func TestNotingIsNotWaitedFor(t *testing.T) {
	for _, d := range []Dialect{PostgreSQL, MySQL} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			driver, dsn := newDatabase(t, d)
			x := newTrial(t, open(t, driver, dsn), d, Config{})
			x.box.settle = time.Minute
			q := patterns.NewWorkQueue[int](x.bus, "q")
			got := received(x, q)
			letGo := lockFirst(x, q)
			x.relay()
			await(t, "the first", func() bool { return len(got()) > 0 })
			must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.Send(ctx, 2) }))
			await(t, "the second", func() bool { return len(got()) > 1 })
			letGo()
			await(t, "no row is left", func() bool { return x.pending() == 0 })
			if fmt.Sprint(got()) != "[1 2]" {
				t.Error(got())
			}
		})
	}
}

// What could not be noted is sent again.
func TestNotingFails(t *testing.T) {
	for _, d := range []Dialect{PostgreSQL, MySQL} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			driver, dsn := newDatabase(t, d)
			x := newTrial(t, open(t, driver, dsn), d, Config{})
			x.box.settle = 100 * time.Millisecond
			q := patterns.NewWorkQueue[int](x.bus, "q")
			got := received(x, q)
			letGo := lockFirst(x, q)
			x.relay()
			await(t, "it comes twice", func() bool { return len(got()) > 1 })
			letGo()
			x.box.Wake()
			await(t, "no row is left", func() bool { return x.pending() == 0 })
		})
	}
}

// A transaction that has stored a message and is open for long does not keep the relay from noting
// what it has sent, which it would send again and again.
func TestOpenTransaction(t *testing.T) {
	for _, c := range []struct {
		name string
		d    Dialect
		dsn  string // instead of it, in the other way
	}{{"PostgreSQL", PostgreSQL, ""}, {"MySQL", MySQL, ""}, {"MySQL, prepared", MySQL, "interpolateParams=false"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			driver, dsn := newDatabase(t, c.d)
			if c.dsn != "" {
				dsn = strings.Replace(dsn, "interpolateParams=true", c.dsn, 1)
			}
			x := newTrial(t, open(t, driver, dsn), c.d, Config{})
			x.box.settle = time.Minute
			q := patterns.NewWorkQueue[int](x.bus, "q")
			got := received(x, q)
			tx, err := x.db.BeginTx(t.Context(), nil)
			must(t, err)
			must(t, q.Send(x.box.In(t.Context(), tx), -1))
			x.relay()
			want := 0
			for _, n := range []int{3, 10, 600} {
				want += n
				must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.SendBatch(ctx, make([]int, n)) }))
				await(t, "no committed row is left", func() bool { return x.pending() == 0 || len(got()) > want })
				if n := len(got()); n > want {
					t.Fatalf("%d messages of %d", n, want)
				}
			}
			must(t, tx.Commit())
			await(t, "its message", func() bool { return slices.Contains(got(), -1) })
		})
	}
}

// deafDatabase is a SQLite that at times does not answer.
type deafDatabase struct {
	dsn     string
	queries atomic.Int64  // from 0 on the number of the next; that of number 0 is not answered
	commits chan struct{} // until it is closed what is to be committed is not, and not answered; or nil
}

func (d *deafDatabase) Connect(context.Context) (driver.Conn, error) {
	c, err := d.Driver().Open(d.dsn)
	if err != nil {
		return nil, err
	}
	return &deafConn{c.(*sqlite3.SQLiteConn), d}, nil
}

func (*deafDatabase) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

type deafConn struct {
	*sqlite3.SQLiteConn
	of *deafDatabase
}

func (c *deafConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.of.queries.Add(1) == 1 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return c.SQLiteConn.QueryContext(ctx, query, args)
}

func (c *deafConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.SQLiteConn.BeginTx(ctx, opts)
	return &deafTx{tx, c.of}, err
}

type deafTx struct {
	driver.Tx
	of *deafDatabase
}

func (tx *deafTx) Commit() error {
	select {
	case <-tx.of.commits:
	default:
		if tx.of.commits != nil {
			_ = tx.Rollback()
			<-tx.of.commits
			return driver.ErrBadConn
		}
	}
	return tx.Tx.Commit()
}

// deaf returns a trial on one.
func deaf(t *testing.T, dsn string) (*trial, *deafDatabase) {
	d := &deafDatabase{dsn: dsn}
	d.queries.Store(1)
	db := sql.OpenDB(d)
	t.Cleanup(func() { must(t, db.Close()) })
	return newTrial(t, db, SQLite, Config{}), d
}

// A database that does not answer a query of the relay is asked again.
func TestQueryIsNotAnswered(t *testing.T) {
	for what, before := range map[string]int64{"whether there is something": 0, "what there is": 1} {
		t.Run(what, func(t *testing.T) {
			_, dsn := newDatabase(t, SQLite)
			synctest.Test(t, func(t *testing.T) {
				x, d := deaf(t, dsn)
				q := patterns.NewWorkQueue[int](x.bus, "q")
				got := received(x, q)
				must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.Send(ctx, 1) }))
				d.queries.Store(-before)
				x.relay()
				time.Sleep(2 * maxQuery)
				if len(got()) != 1 || x.pending() != 0 {
					t.Error(got(), x.pending())
				}
			})
		})
	}
}

// A commit that is not answered stops the relay from sending the same again, and not from stopping.
func TestCommitIsNotAnswered(t *testing.T) {
	for what, attempts := range map[string]int{"noted aside": 5, "parked": 1} {
		t.Run(what, func(t *testing.T) {
			_, dsn := newDatabase(t, SQLite)
			synctest.Test(t, func(t *testing.T) {
				x, d := deaf(t, dsn)
				x.box.config.Attempts = attempts
				q := patterns.NewWorkQueue[int](x.bus, "q")
				got := received(x, q)
				must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error {
					if err := q.Send(ctx, 1); err != nil || attempts > 1 {
						return err
					}
					return patterns.NewTopic[int](x.bus, "topic").Publish(ctx, "nobody", 2, patterns.Mandatory())
				}))
				d.commits = make(chan struct{})
				stop := x.relay()
				time.Sleep(10 * time.Minute)
				if fmt.Sprint(got()) != "[1]" {
					t.Error(got())
				}
				stop()
				close(d.commits)
				x.relay()
				must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.Send(ctx, 3) }))
				time.Sleep(time.Minute)
				if fmt.Sprint(got()) != "[1 1 3]" || x.pending() != 0 {
					t.Error(got(), x.pending())
				}
			})
		})
	}
}

// A leader keeps its place for what comes at once, or is being stored, so that it need not write
// before it sends it; else it makes room for others.
func TestLeaderLingers(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	synctest.Test(t, func(t *testing.T) {
		db, err := sql.Open(driver, dsn)
		must(t, err)
		defer db.Close()
		box, err := New(db, SQLite, Config{Poll: time.Minute})
		must(t, err)
		must(t, box.Migrate(t.Context()))
		elsewhere, err := New(db, SQLite, Config{})
		must(t, err)
		var sentBy atomic.Value // the owner at the time
		owner := func() (name string) {
			must(t, db.QueryRowContext(context.Background(), "SELECT owner FROM motif_outbox_leader").Scan(&name))
			return name
		}
		bus := patterns.New(memory.New().Connect())
		defer bus.Close(context.Background())
		q := patterns.NewWorkQueue[int](bus, "q")
		_, err = q.Work(context.Background(), func(context.Context, int) error { sentBy.Store(owner()); return nil })
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error)
		go func() { over <- box.Run(ctx, bus) }()
		must(t, elsewhere.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.Send(ctx, 1) }))
		box.Wake()
		time.Sleep(time.Millisecond)
		leader := owner()
		if leader == "" || sentBy.Load() != leader {
			t.Errorf("the leader is %q after a moment, and was %q", leader, sentBy.Load())
		}
		box.Wake() // it looks, and finds nothing
		time.Sleep(linger - 2*time.Millisecond)
		if owner() != leader {
			t.Error("it has left at once")
		}
		time.Sleep(2 * time.Millisecond)
		if name := owner(); name != "" {
			t.Errorf("%q is the leader of nothing", name)
		}
		must(t, box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.Send(ctx, 2) }))
		time.Sleep(linger - time.Millisecond)
		tx, err := db.BeginTx(t.Context(), nil)
		must(t, err)
		must(t, q.Send(box.In(t.Context(), tx), 3))
		time.Sleep(linger - time.Millisecond) // it looks now and then, and finds nothing
		if owner() != leader {
			t.Error("it did not wait for the commit")
		}
		must(t, tx.Commit())
		box.Wake()
		time.Sleep(linger + time.Millisecond)
		if name := owner(); name != "" {
			t.Errorf("%q is the leader of nothing, after all", name)
		}
		cancel()
		must(t, <-over)
	})
}

// A leader that was frozen for as long as others wait does not go on as if it were still one; and
// one that is stopped says so.
func TestLeaderOfThePast(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	x := newTrial(t, open(t, driver, dsn), SQLite, Config{})
	q := patterns.NewWorkQueue[int](x.bus, "q")
	must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.Send(ctx, 1) }))
	r := &relay{box: x.box, lease: lease{box: x.box, owner: "me"}}
	if ok, err := r.lease.take(t.Context(), "", nil); !ok || err != nil || !r.lease.isHeld() {
		t.Fatal(ok, err)
	}
	r.lease.said = r.lease.said.Add(-x.box.lease)
	if r.lease.isHeld() {
		t.Error("it holds on")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	must(t, r.leave(ended))
	if n := count(t, x.db, "SELECT COUNT(*) FROM motif_outbox_leader WHERE owner = ''"); n != 1 {
		t.Error("nobody was told")
	}
}
