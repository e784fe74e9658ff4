//go:build unix

package outbox

import (
	"context"
	"database/sql"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// An outbox works in virtual time: a message that is delayed for an hour takes none.
func TestVirtualTime(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	synctest.Test(t, func(t *testing.T) {
		db, err := sql.Open(driver, dsn)
		must(t, err)
		defer db.Close()
		box, err := New(db, SQLite, Config{Poll: time.Minute})
		must(t, err)
		must(t, box.Migrate(t.Context()))
		bus := patterns.New(memory.New().Connect())
		defer bus.Close(context.Background())
		q := patterns.NewWorkQueue[int](bus, "q")
		got := make(chan int, 1)
		_, err = q.Work(context.Background(), func(_ context.Context, v int) error { got <- v; return nil })
		must(t, err)
		start := time.Now()
		must(t, box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.Send(ctx, 1, patterns.Delay(time.Hour)) }))
		time.Sleep(20 * time.Minute) // nobody relays yet
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error)
		go func() { over <- box.Run(ctx, bus) }()
		<-got
		if waited := time.Since(start); waited < time.Hour || waited > time.Hour+time.Minute {
			t.Errorf("it came after %v", waited)
		}
		cancel()
		must(t, <-over)
	})
}
