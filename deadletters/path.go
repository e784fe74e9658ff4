package deadletters

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// A PathMatch asks for a value in a JSON document; see [ParsePathMatch].
type PathMatch struct {
	steps []pathStep
	op    string // "", "=" or "!="
	value any    // for an op
}

// pathStep is a member's name, an index, or any of them.
type pathStep struct {
	name  string
	index int // if isIndex
	any   bool

	isIndex bool
}

// ParsePathMatch parses what is asked of a JSON document: PATH, that it has such a value;
// PATH=VALUE, that it has such a value and it is this; PATH!=VALUE, that it has one that is
// another. A VALUE is JSON, or else a string without its quotes.
//
// A PATH is a small part of JSONPath: names with dots between them, indexes from 0 in brackets,
// names that are no words in brackets and quotes, and * for any name or index. It may begin with $.
//
//	dish  $.items[0].price  items[*].id  ['odd name'].x
func ParsePathMatch(text string) (PathMatch, error) {
	p := PathMatch{}
	rest := strings.TrimPrefix(text, "$")
	fail := func(why string) (PathMatch, error) {
		return p, fmt.Errorf("%w: path %q: %s", adapters.ErrInvalid, text, why)
	}
	for first := true; rest != "" && rest[0] != '=' && rest[0] != '!'; first = false {
		switch {
		case rest[0] == '[':
			var step pathStep
			var ok bool
			if step, rest, ok = parseBracket(rest[1:]); !ok {
				return fail("in brackets stands a number, * or a name in quotes")
			}
			p.steps = append(p.steps, step)
		case rest[0] == '.' || first:
			rest = strings.TrimPrefix(rest, ".")
			end := strings.IndexAny(rest, ".[=!")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return fail("a name is missing")
			}
			p.steps = append(p.steps, pathStep{name: rest[:end], any: rest[:end] == "*"})
			rest = rest[end:]
		default:
			return fail("between names stands a dot")
		}
	}
	if len(p.steps) == 0 {
		return fail("it has no name")
	}
	if rest == "" {
		return p, nil
	}
	for _, op := range []string{"!=", "="} {
		if value, ok := strings.CutPrefix(rest, op); ok {
			p.op = op
			if decoded, ok := decodeJSON([]byte(value)); ok {
				p.value = decoded
			} else {
				p.value = value
			}
			return p, nil
		}
	}
	return fail("behind the path stands = or !=")
}

// parseBracket parses what is in brackets, behind the first.
func parseBracket(text string) (step pathStep, rest string, ok bool) {
	if text != "" && (text[0] == '\'' || text[0] == '"') {
		name, rest, ok := strings.Cut(text[1:], text[:1]+"]")
		return pathStep{name: name}, rest, ok
	}
	inner, rest, ok := strings.Cut(text, "]")
	if !ok {
		return step, "", false
	}
	if inner == "*" {
		return pathStep{any: true}, rest, true
	}
	n, err := strconv.Atoi(inner)
	return pathStep{index: n, isIndex: true}, rest, err == nil && n >= 0
}

func matchPayload(all []PathMatch, l *Letter) bool {
	text, err := l.Text()
	if err != nil {
		return false
	}
	document, ok := decodeJSON(text)
	if !ok {
		return false
	}
	for _, p := range all {
		if !p.match(document, p.steps) {
			return false
		}
	}
	return true
}

// decodeJSON decodes one document, with numbers as they are written.
func decodeJSON(text []byte) (value any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&value) != nil {
		return nil, false
	}
	return value, !d.More()
}

// match reports whether a value at the end of the steps is as asked for.
func (p *PathMatch) match(at any, steps []pathStep) bool {
	if len(steps) == 0 {
		switch p.op {
		case "=":
			return sameJSON(at, p.value)
		case "!=":
			return !sameJSON(at, p.value)
		}
		return true
	}
	step, rest := steps[0], steps[1:]
	switch at := at.(type) {
	case map[string]any:
		if step.any {
			for _, value := range at {
				if p.match(value, rest) {
					return true
				}
			}
			return false
		}
		value, ok := at[step.name]
		return ok && !step.isIndex && p.match(value, rest)
	case []any:
		if step.any {
			for _, value := range at {
				if p.match(value, rest) {
					return true
				}
			}
			return false
		}
		return step.isIndex && step.index < len(at) && p.match(at[step.index], rest)
	}
	return false
}

// sameJSON compares values. Numbers are the same as numbers, however they are written.
func sameJSON(a, b any) bool {
	x, isNumber := a.(json.Number)
	y, too := b.(json.Number)
	if isNumber && too {
		if x == y {
			return true
		}
		f, err := x.Float64()
		g, err2 := y.Float64()
		return err == nil && err2 == nil && f == g
	}
	return reflect.DeepEqual(a, b)
}
