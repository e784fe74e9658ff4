package conformance

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// matrixText is what a RabbitMQ 3.10.8 broker matched: each line is a
// topic pattern, and the keys that it matched.
//
//go:embed testdata/topic_matrix_3.10.8.txt
var matrixText string

// row is a topic pattern, and those of all keys of the matrix that match it.
type row struct {
	pattern string
	matches []string
}

// matrix returns the rows, and all keys.
func matrix() (rows []row, keys []string) {
	for line := range strings.Lines(matrixText) {
		pattern, rest := unquote(line)
		_, rest, _ = strings.Cut(rest, ":")
		r := row{pattern: pattern}
		for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
			var key string
			key, rest = unquote(rest)
			r.matches = append(r.matches, key)
		}
		slices.Sort(r.matches)
		rows = append(rows, r)
		keys = append(keys, r.matches...)
	}
	slices.Sort(keys)
	return rows, slices.Compact(keys)
}

// unquote returns the string that text begins with in quotes, and what follows.
func unquote(text string) (first, rest string) {
	quoted, err := strconv.QuotedPrefix(text)
	if err == nil {
		first, err = strconv.Unquote(quoted)
	}
	if err != nil {
		panic(fmt.Sprintf("the matrix is damaged: %v: %s", err, text))
	}
	return first, text[len(quoted):]
}
