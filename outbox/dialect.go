package outbox

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

// Dialect is the kind of database that a [Box] is in.
type Dialect uint8

// The databases.
const (
	PostgreSQL Dialect = iota + 1
	MySQL              // MySQL and MariaDB, with InnoDB
	SQLite
)

//go:embed schema/postgresql.sql
var postgresqlSchema string

//go:embed schema/mysql.sql
var mysqlSchema string

//go:embed schema/sqlite.sql
var sqliteSchema string

// String returns the name of the database.
func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "PostgreSQL"
	case MySQL:
		return "MySQL"
	case SQLite:
		return "SQLite"
	}
	return fmt.Sprintf("dialect(%d)", uint8(d))
}

// Schema returns the statements that make the tables, for programs that have migrations of their
// own. They are harmless where the tables exist.
func (d Dialect) Schema() string {
	switch d {
	case PostgreSQL:
		return postgresqlSchema
	case MySQL:
		return mysqlSchema
	case SQLite:
		return sqliteSchema
	}
	return ""
}

// rebind writes the parameters of a statement, which are question marks in it, as the database
// does.
func (d Dialect) rebind(query string) string {
	if d != PostgreSQL {
		return query
	}
	var b strings.Builder
	n := 0
	for _, r := range query {
		if r != '?' {
			b.WriteRune(r)
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}

// txOptions are for transactions of the relay: MySQL's own level would lock the gaps between rows.
func (d Dialect) txOptions() *sql.TxOptions {
	if d == MySQL {
		return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	return nil
}

// unhurried is part of an UPDATE that commits without waiting for the disk. After a crash of the
// database it may be forgotten.
func (d Dialect) unhurried() string {
	if d == PostgreSQL {
		return " FROM (SELECT set_config('synchronous_commit', 'off', true)) AS setting"
	}
	return ""
}

// deletion returns a statement that deletes n rows by their ids. Of several ids in a small table
// InnoDB reads the whole table, whatever index it is told to use, and waits for each row that an
// open transaction has stored. In a join it looks for each id, and meets no other row.
func (d Dialect) deletion(table string, n int) string {
	if d != MySQL {
		return "DELETE FROM " + table + " WHERE id IN (" + marks(n) + ")"
	}
	return "DELETE t FROM (SELECT CAST(? AS SIGNED) AS id" + strings.Repeat(" UNION ALL SELECT CAST(? AS SIGNED)", n-1) +
		") AS ids STRAIGHT_JOIN " + table + " AS t ON t.id = ids.id"
}

// maxDeleted is how many rows a deletion has at most.
func (d Dialect) maxDeleted() int {
	if d == MySQL {
		return 64 // each is a query
	}
	return 512
}

// migrationLock is the advisory lock of [Box.Migrate] in PostgreSQL, where of two programs that
// create one table at a time one fails.
const migrationLock = 0x6d6f746966 // "motif"

// Migrate makes the tables that do not exist yet: those of [Dialect.Schema], with the prefix of
// [Config].Table. Any number of processes may do so at a time, and at each start.
func (b *Box) Migrate(ctx context.Context) error {
	if err := b.migrate(ctx); err != nil {
		return fmt.Errorf("outbox: making the tables: %w", err)
	}
	return nil
}

func (b *Box) migrate(ctx context.Context) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // it is committed by then, or nothing was made
	if b.dialect == PostgreSQL {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
	}
	schema := strings.ReplaceAll(b.dialect.Schema(), defaultTable, b.table)
	for statement := range strings.SplitSeq(schema, ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// marks returns n parameters for a list, as in ?, ?, ?
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
