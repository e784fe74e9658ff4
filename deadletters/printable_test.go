package deadletters

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for _, c := range []struct {
		text, want string
		limit      int
	}{
		{"plain text, ünïcode 漢字 🍜", "plain text, ünïcode 漢字 🍜", 0},
		{"\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`, 0},
		{"\x1b]0;title\a", `\x1b]0;title\x07`, 0},
		{"\u009b31m", `\u009b31m`, 0},
		{"a\r\nb\tc", `a\x0d\nb\tc`, 0},
		{"\u202egnp.exe\u2066", `\u202egnp.exe\u2066`, 0},
		{"a\u200bb\ufeff\u00ad", `a\u200bb\ufeff\u00ad`, 0},
		{"\u2028\u2029\u00a0", `\u2028\u2029\u00a0`, 0},
		{"\xff\xfe\xc3", `\xff\xfe\xc3`, 0},
		{"\x7f\x00", `\x7f\x00`, 0},
		{"\U000e0041\ue000", `\U000e0041\ue000`, 0},
		{"<script>&amp;", "<script>&amp;", 0},
		{"abc", "ab…", 2},
		{"abc", "abc", 3},
		{"\x1b\x1b", `\x1b…`, 1},
	} {
		if got := Printable(c.text, c.limit); got != c.want {
			t.Errorf("%q is shown as %q, want %q", c.text, got, c.want)
		}
	}
	if got := PrintableLines("a\n\tb\r\x1b", 0); got != "a\n\tb\\x0d\\x1b" {
		t.Errorf("lines are shown as %q", got)
	}
}

func FuzzPrintable(f *testing.F) {
	for _, seed := range []string{"", "soup", "\x1b[2J", "\u202e", "\xff", "\n\t", "\u009b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		shown := Printable(text, 0)
		if !utf8.ValidString(shown) {
			t.Errorf("%q is shown as %q, which is no UTF-8", text, shown)
		}
		for _, r := range shown {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r) || r != ' ' && unicode.IsSpace(r) {
				t.Errorf("%q is shown with %q", text, r)
			}
		}
		if lines := PrintableLines(text, 0); strings.Count(lines, "\n") != strings.Count(text, "\n") {
			t.Errorf("%q is shown in other lines: %q", text, lines)
		}
		if short := Printable(text, 10); utf8.RuneCountInString(short) > 10*10+1 {
			t.Errorf("%q is shown as %q", text, short)
		}
	})
}

func TestParsePathMatch(t *testing.T) {
	const document = `{"dish":"soup","price":9.0,"n":null,"items":[{"id":"a"},{"id":"b","tags":["x"]}],"odd name":{"x":true}}`
	for path, want := range map[string]bool{
		"dish": true, "dish=soup": true, `dish="soup"`: true, "dish=ramen": false, "dish!=ramen": true, "dish!=soup": false,
		"$.dish=soup": true, "price=9": true, "price=9.00": true, "price=10": false, "n=null": true, "n": true, "missing": false, "missing!=1": false,
		"items[0].id=a": true, "items[1].id=a": false, "items[*].id=b": true, "items[*].tags[*]=x": true, "items[9]": false,
		"['odd name'].x=true": true, `$["odd name"].x=false`: false, "*.x=true": true, "dish.x": false, "dish[0]": false,
	} {
		p, err := ParsePathMatch(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		value, _ := decodeJSON([]byte(document))
		if got := p.match(value, p.steps); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	for _, path := range []string{"", "$", "=1", "a..b", "a[", "a[x]", "a[-1]", "a['x", "a]b[0]c", "a!b", "a[0]b"} {
		if p, err := ParsePathMatch(path); err == nil && path != "a]b[0]c" {
			t.Errorf("%q is taken: %+v", path, p)
		}
	}
}

func FuzzParsePathMatch(f *testing.F) {
	for _, seed := range []string{"a.b[0]=1", "$['x'].*!=y", "[*]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParsePathMatch(text); err == nil {
			p.match(map[string]any{"a": []any{"x"}}, p.steps)
		}
	})
}
