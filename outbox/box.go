package outbox

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// Config is the settings of a [Box]. The zero value is good for most programs.
type Config struct {
	// Table is the outbox's table, motif_outbox if it is empty. The names of the other two begin
	// with it. Boxes with tables of their own have nothing to do with one another.
	Table string

	// Poll is how often a relay that has nothing to do looks for what other processes have stored;
	// 0 = 200 ms. What this process stores it finds sooner: see [Box.Wake].
	Poll time.Duration

	// Batch is how many rows the relay has in hand at most; 0 = 500. It stops at 16 MiB of
	// payloads, too.
	Batch int

	// Attempts is how often a message is tried that the broker returns as unroutable, or that fails
	// in a way nobody knows, before it is parked; 0 = 5, which takes four seconds. The messages to
	// its destination wait meanwhile.
	Attempts int

	// Strict keeps the order where a message is refused and those behind it are not. Without it
	// many messages are on their way at a time to an exchange or to a [patterns.Passive] queue, of
	// which the relay cannot know whether it will refuse one: what is on its way then may overtake
	// it. With it they are sent one after another, which is slower. To work queues, which it does
	// know, nothing overtakes in either case: to one with MaxLength that refuses what is too much
	// they are sent one after another, to others many at a time.
	Strict bool

	// Logger is for what nobody else is told; nil = slog.Default(). Payloads and header values are
	// not logged.
	Logger *slog.Logger

	// OnPark is called for each message that the relay has parked, by the relay's own goroutine.
	// nil = none. The log has it in any case.
	OnPark func(ctx context.Context, p Parked)
}

const (
	defaultTable   = "motif_outbox"
	maxBatchBytes  = 16 << 20
	maxBatch       = 10_000 // rows, and so parameters of a statement
	defaultLease   = 3 * time.Second
	defaultPending = 30 * time.Second
	defaultSettle  = 5 * time.Second
)

// Box is an outbox: a table in a database, with messages that wait to be published. It is safe for
// concurrent use.
type Box struct {
	db      *sql.DB
	dialect Dialect
	config  Config
	table   string
	log     *slog.Logger
	lease   time.Duration // how long a leader that does not say a word is believed to be one
	patient time.Duration // how long the relay waits for what it has published
	settle  time.Duration // how long noting what was sent takes at most, also at a shutdown

	wake   chan struct{} // something was committed
	stored chan struct{} // something is about to be

	sent, parked atomic.Uint64
	mu           sync.Mutex
	waiting      map[adapters.Endpoint]Waiting // as the relay of this process knows
	relaying     bool                          // it is the one that does
}

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

// New returns the outbox in db, which stays the caller's. Its tables must exist when it is used:
// see [Box.Migrate].
//
// With SQLite, give the database a busy_timeout: the relay writes, too.
func New(db *sql.DB, d Dialect, c Config) (*Box, error) {
	c.Table = cmp.Or(c.Table, defaultTable)
	c.Poll = cmp.Or(c.Poll, 200*time.Millisecond)
	c.Batch = cmp.Or(c.Batch, 500)
	c.Attempts = cmp.Or(c.Attempts, 5)
	switch {
	case db == nil:
		return nil, invalid("no database")
	case d.Schema() == "":
		return nil, invalid("unknown %v", d)
	case !tableName.MatchString(c.Table) || len(c.Table) > 40:
		return nil, invalid("table %q", c.Table)
	case c.Poll < 0:
		return nil, invalid("Poll of %v", c.Poll)
	case c.Batch < 0 || c.Batch > maxBatch:
		return nil, invalid("Batch of %d, which is not in 1..%d", c.Batch, maxBatch)
	case c.Attempts < 0:
		return nil, invalid("Attempts of %d", c.Attempts)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Box{
		db: db, dialect: d, config: c, table: c.Table, log: c.Logger, lease: defaultLease, patient: defaultPending, settle: defaultSettle,
		wake: make(chan struct{}, 1), stored: make(chan struct{}, 1), waiting: map[adapters.Endpoint]Waiting{},
	}, nil
}

// Tx is what messages are stored through: a *sql.Tx, or what wraps one.
type Tx interface {
	// ExecContext runs a statement, as that of *sql.Tx does.
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// In returns a ctx with which the verbs of patterns that publish store in tx instead. nil from them
// means that the message is published if tx commits. After an error tx should be rolled back: in
// PostgreSQL it cannot commit any more, and of a batch some may be stored.
//
// All options are kept: id, headers, key, priority, Delay and TTL, whose time begins when the
// message is stored. What cannot be stored is refused as adapters.ErrInvalid: see
// [patterns.StoreIn]. Nothing is sent to the broker, which may be down: the relay declares a work
// queue before it sends to it.
func (b *Box) In(ctx context.Context, tx Tx) context.Context {
	return patterns.StoreIn(ctx, &store{b, tx})
}

// Do calls f within a transaction, with a ctx in which the verbs that publish store in it, commits
// if f returns nil, and wakes the relay. Otherwise it rolls back, and returns f's error.
func (b *Box) Do(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("outbox: beginning a transaction: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // it is committed by then, or f has failed
	if err := f(b.In(ctx, tx), tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("outbox: committing a transaction: %w", err)
	}
	b.Wake()
	return nil
}

// Wake makes the relay of this process look now. [Box.Do] calls it; a program that commits by
// itself may, after the commit, or on a notification of its database's. Without it the relay finds
// what this process stores by looking often in the moments after: after 2, 4, 8 ms and so on. It
// does not block.
func (b *Box) Wake() { signal(b.wake) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is on its way
	}
}

// query returns a statement with the box's tables: %s is the outbox.
func (b *Box) query(format string) string {
	return b.dialect.rebind(fmt.Sprintf(format, b.table))
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("outbox: %w: %s", adapters.ErrInvalid, fmt.Sprintf(format, args...))
}
