package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"

	_ "github.com/motifmq/motif/adapters/amqp"
)

func TestMain(m *testing.M) { amqptest.Main(m) }

// BenchmarkCommit handles messages from RabbitMQ with a commit in PostgreSQL for each: of one
// message, or of a batch of 100. MOTIF_POSTGRES is the URL of a database in which it may make a
// table.
//
//	MOTIF_POSTGRES=postgres://postgres@127.0.0.1:5433/postgres MOTIF_RABBITMQ=4.3 \
//		go test -run ^$ -bench Commit -benchtime 20000x ./internal/bench
func BenchmarkCommit(b *testing.B) {
	url := os.Getenv("MOTIF_POSTGRES")
	if url == "" {
		b.Fatal("MOTIF_POSTGRES is not set")
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(b.Context(), `CREATE TABLE IF NOT EXISTS motif_bench (dish text)`); err != nil {
		b.Fatal(err)
	}
	defer db.ExecContext(context.Background(), `DROP TABLE motif_bench`) //nolint:errcheck // nobody needs it
	store := func(ctx context.Context, batch []string) error {
		values, args := make([]string, len(batch)), make([]any, len(batch))
		for i, dish := range batch {
			values[i], args[i] = fmt.Sprintf("($%d)", i+1), dish
		}
		_, err := db.ExecContext(ctx, `INSERT INTO motif_bench VALUES `+strings.Join(values, ","), args...)
		return err
	}
	for _, workers := range []int{1, 8} {
		b.Run(fmt.Sprintf("single/workers=%d", workers), func(b *testing.B) {
			benchmarkCommit(b, func(q *patterns.WorkQueue[string], handled func(int)) (*patterns.Subscription, error) {
				return q.Work(b.Context(), func(ctx context.Context, dish string) error {
					defer handled(1)
					return store(ctx, []string{dish})
				}, patterns.Workers(workers))
			})
		})
		b.Run(fmt.Sprintf("batch=100/workers=%d", workers), func(b *testing.B) {
			benchmarkCommit(b, func(q *patterns.WorkQueue[string], handled func(int)) (*patterns.Subscription, error) {
				return q.WorkBatch(b.Context(), func(ctx context.Context, batch []string) error {
					defer func() { handled(len(batch)) }()
					return store(ctx, batch)
				}, patterns.BatchSize(100), patterns.Workers(workers))
			})
		})
	}
}

func benchmarkCommit(b *testing.B, work func(q *patterns.WorkQueue[string], handled func(int)) (*patterns.Subscription, error)) {
	bus, err := patterns.Open(b.Context(), amqptest.Shared(b).URL)
	if err != nil {
		b.Fatal(err)
	}
	defer bus.Close(context.Background())
	q := patterns.NewWorkQueue[string](bus, fmt.Sprint("commits-", time.Now().UnixNano()))
	values := make([]string, b.N)
	for i := range values {
		values[i] = fmt.Sprint("noodles ", i)
	}
	if err := q.SendBatch(b.Context(), values); err != nil {
		b.Fatal(err)
	}
	var count atomic.Int64
	done := make(chan struct{})
	b.ResetTimer()
	sub, err := work(q, func(n int) {
		if count.Add(int64(n)) == int64(b.N) {
			close(done)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	<-done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	if err := sub.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
}
