package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/motifmq/motif/deadletters"
)

// safe makes what others wrote fit for a cell of a table.
func safe(text string, limit int) string { return deadletters.Printable(text, limit) }

// isTerminal reports whether w is one that shows colours, and is to.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Colours, by what they mean.
const (
	colourHead = "1" // bold
	colourBad  = "31"
	colourGood = "32"
	colourDim  = "2"
)

// colour colours text, where it is shown on a terminal.
func (i *invocation) colour(code, text string) string {
	if !isTerminal(i.stdout) || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// A table is rows of cells that are aligned by column. The first row is its head. A cell that is a
// number is aligned to the right.
type table struct{ rows [][]string }

func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.rows = append(t.rows, row)
}

// write writes the table, with its head in bold on a terminal. Cells must be fit to be shown.
func (i *invocation) write(t *table) error {
	var widths []int
	for _, row := range t.rows {
		for at, cell := range row {
			if at == len(widths) {
				widths = append(widths, 0)
			}
			widths[at] = max(widths[at], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range t.rows {
		var line strings.Builder
		for at, cell := range row {
			pad := strings.Repeat(" ", widths[at]-utf8.RuneCountInString(cell))
			switch {
			case n > 0 && isNumber(cell):
				line.WriteString(pad + cell)
			case at == len(row)-1:
				line.WriteString(cell)
			default:
				line.WriteString(cell + pad)
			}
			if at < len(row)-1 {
				line.WriteString("  ")
			}
		}
		text := strings.TrimRight(line.String(), " ")
		if n == 0 {
			text = i.colour(colourHead, text)
		}
		if _, err := fmt.Fprintln(i.stdout, text); err != nil {
			return err
		}
	}
	return nil
}

func isNumber(cell string) bool {
	return cell != "" && strings.Trim(cell, "0123456789") == ""
}
