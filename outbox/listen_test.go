//go:build unix

package outbox

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/motifmq/motif/patterns"
)

const notifyTrigger = `
CREATE FUNCTION motif_outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NOTIFY motif_outbox;
	RETURN NULL;
END $$;
CREATE TRIGGER motif_outbox_notify AFTER INSERT ON motif_outbox
	FOR EACH STATEMENT EXECUTE FUNCTION motif_outbox_notify();
`

// listen wakes the relay when another process has stored something in PostgreSQL.
func listen(ctx context.Context, db *sql.DB, box *Box) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driver any) error {
		pg := driver.(*stdlib.Conn).Conn()
		if _, err := pg.Exec(ctx, "LISTEN motif_outbox"); err != nil {
			return err
		}
		for {
			if _, err := pg.WaitForNotification(ctx); err != nil {
				return err
			}
			box.Wake()
		}
	})
}

func TestListen(t *testing.T) {
	driver, dsn := newDatabase(t, PostgreSQL)
	x := newTrial(t, open(t, driver, dsn), PostgreSQL, Config{Poll: time.Hour})
	_, err := x.db.ExecContext(t.Context(), notifyTrigger)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- listen(ctx, x.db, x.box) }()
	defer func() { cancel(); t.Log(<-over) }()
	x.relay()
	elsewhere, err := New(x.db, PostgreSQL, Config{}) // in another process
	must(t, err)
	q := patterns.NewWorkQueue[int](x.bus, "q")
	got := received(x, q)
	await(t, "a message that a notification told of", func() bool {
		must(t, elsewhere.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.Send(ctx, 1) }))
		return len(got()) > 0
	})
}
