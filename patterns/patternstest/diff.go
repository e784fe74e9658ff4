package patternstest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// maxDiff bounds the lines of one side that are compared: it takes their product of steps.
const maxDiff = 1000

// diff returns how got differs from want, line by line, or "" if it does not.
func diff[T any](want, got []T) string {
	if len(want) == len(got) && (len(want) == 0 || reflect.DeepEqual(want, got)) {
		return ""
	}
	a, b := lines(want), lines(got)
	if len(a) > maxDiff || len(b) > maxDiff {
		return fmt.Sprintf("%d values, want %d; too many to show\n", len(got), len(want))
	}
	if text := compare(a, b); strings.Contains(text, "\n- ") || strings.Contains(text, "\n+ ") || strings.HasPrefix(text, "- ") || strings.HasPrefix(text, "+ ") {
		return text
	}
	return fmt.Sprintf("  they look the same as JSON, but are not\n- %#v\n+ %#v\n", want, got)
}

// lines shows values as JSON, for it has the names that travel, or as Go where they have no such
// form.
func lines[T any](values []T) []string {
	var all []string
	for _, v := range values {
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			text = fmt.Appendf(nil, "%+v", v)
		}
		all = append(all, strings.Split(string(text), "\n")...)
	}
	return all
}

// compare writes a as it becomes b: what both have, "- " for what b lacks, "+ " for what it has
// besides.
func compare(a, b []string) string {
	// common[i][j] is how many lines a[i:] and b[j:] have in common, in order.
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out.WriteString("  " + a[i] + "\n")
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out.WriteString("- " + a[i] + "\n")
			i++
		default:
			out.WriteString("+ " + b[j] + "\n")
			j++
		}
	}
	return out.String()
}
