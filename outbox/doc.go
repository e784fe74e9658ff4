// Package outbox publishes messages if and only if a database transaction commits. Within the
// transaction every verb of every pattern that publishes stores a row instead, and a relay sends
// the rows afterwards:
//
//	box, err := outbox.New(db, outbox.PostgreSQL, outbox.Config{})
//	...
//	go box.Run(ctx, bus) // in one process or in all: one at a time relays
//	...
//	err = box.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
//		if _, err := tx.ExecContext(ctx, "INSERT INTO orders ..."); err != nil {
//			return err
//		}
//		return orders.Send(ctx, order) // stored in tx
//	})
//
// A transaction of the program's own does as well: orders.Send(box.In(ctx, tx), order).
//
// # What it promises
//
// A message whose transaction committed is published, at least once, with the id that it was stored
// with; one whose transaction did not is not. With [middleware.Once] at the receiving end, whose
// mark is in the handler's own transaction, an effect in a database happens exactly once.
//
// The messages to one queue or exchange are published in the order in which they were stored, as
// far as the transactions that stored them were not under way at the same time; and nothing
// overtakes a message that has to be sent again, with the exceptions that [Config].Strict names. A
// message that is parked leaves its place.
//
// Rows are deleted once the broker has confirmed them. A row that cannot be sent for a fault of its
// own, such as one too large for the broker, is parked in a table of its own with the reason, where
// it is in nobody's way: see [Box.Parked] and [Box.Resend]. While a destination or the broker
// refuses, rows wait in the database; the relay holds one batch of them.
//
// # What it is made of
//
// Tables, which [Box.Migrate] makes or the files in schema: motif_outbox, motif_outbox_parked,
// motif_outbox_leader, and motif_once for [middleware.NewSQLStore]. Nothing but database/sql is
// used: bring a driver. It is tested on PostgreSQL 15 with pgx, MariaDB 10.11 with
// go-sql-driver/mysql, and SQLite with mattn/go-sqlite3.
//
// [middleware.Once]: https://pkg.go.dev/github.com/motifmq/motif/middleware#Once
// [middleware.NewSQLStore]: https://pkg.go.dev/github.com/motifmq/motif/middleware#NewSQLStore
package outbox
