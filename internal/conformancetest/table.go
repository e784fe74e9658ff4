package conformancetest

import (
	"fmt"
	"os"
	"strings"

	"github.com/motifmq/motif/conformance"
)

// The marks between which a Markdown file has the table.
const (
	tableBegin = "<!-- conformance: written by make conformance -->\n"
	tableEnd   = "<!-- conformance: end -->\n"
)

// UpdateTable puts the matrix's table into a Markdown file.
func UpdateTable(file string, m conformance.Matrix) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, _, end, err := cutTable(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var b strings.Builder
	if err := m.WriteMarkdown(&b); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(begin+b.String()+end), 0o644) //nolint:gosec // for everybody
}

// cutTable cuts a Markdown file into the table and what is before and after it.
func cutTable(text string) (begin, table, end string, err error) {
	begin, rest, ok := strings.Cut(text, tableBegin)
	table, end, closed := strings.Cut(rest, tableEnd)
	if !ok || !closed {
		return "", "", "", fmt.Errorf("there is no pair of lines %q and %q", tableBegin, tableEnd)
	}
	return begin + tableBegin, table, tableEnd + end, nil
}
