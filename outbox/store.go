package outbox

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/motifmq/motif/patterns"
)

// store implements [patterns.Store] in a transaction.
type store struct {
	box *Box
	tx  Tx
}

// One statement inserts so much at most.
const (
	maxInsertRows  = 50
	maxInsertBytes = 1 << 20
)

// Store implements [patterns.Store].
func (s *store) Store(ctx context.Context, msgs []patterns.Outgoing) error {
	if s.tx == nil {
		return invalid("In with no transaction")
	}
	now := time.Now().UTC()
	rows := make([]row, len(msgs))
	for i, o := range msgs {
		var err error
		if rows[i], err = newRow(o, now); err != nil {
			return err
		}
	}
	for len(rows) > 0 {
		n, size := 0, 0
		for n < len(rows) && n < maxInsertRows && (n == 0 || size+len(rows[n].payload) <= maxInsertBytes) {
			size += len(rows[n].payload)
			n++
		}
		if err := s.insert(ctx, rows[:n]); err != nil {
			return fmt.Errorf("storing a message: %w", err)
		}
		rows = rows[n:]
	}
	signal(s.box.stored)
	return nil
}

func (s *store) insert(ctx context.Context, rows []row) error {
	args := make([]any, 0, 4*len(rows))
	for i := range rows {
		r := &rows[i]
		args = append(args, r.storedAt.UnixMicro(), r.to, r.envelope, r.payload)
	}
	values := strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?), ", len(rows)), ", ")
	_, err := s.tx.ExecContext(ctx, s.box.query("INSERT INTO %s (stored_at, destination, envelope, payload) VALUES "+values), args...)
	return err
}
