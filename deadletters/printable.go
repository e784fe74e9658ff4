package deadletters

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes text harmless on a terminal, for what others wrote: each control character, byte
// that is no UTF-8, and character that is invisible or changes the direction of what follows is
// replaced by an escape such as \x1b or \u202e. A line feed and a tab become \n and \t. A backslash
// stays as it is, because most text that has one is JSON. At most limit characters are shown, and
// an ellipsis behind them; 0 is no limit.
func Printable(text string, limit int) string { return printable(text, limit, false) }

// PrintableLines is Printable that leaves line feeds and tabs as they are.
func PrintableLines(text string, limit int) string { return printable(text, limit, true) }

func printable(text string, limit int, lines bool) string {
	var b strings.Builder
	shown := 0
	for i, size := 0, 0; i < len(text); i += size {
		if limit > 0 && shown == limit {
			b.WriteString("…")
			break
		}
		shown++
		var r rune
		r, size = utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\n' || r == '\t':
			switch {
			case lines:
				b.WriteRune(r)
			case r == '\n':
				b.WriteString(`\n`)
			default:
				b.WriteString(`\t`)
			}
		case r < 0x80 && unicode.IsControl(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case isHarmless(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// isHarmless reports whether a terminal shows r as one visible character, or a space, and goes on
// as before. Formatting characters, among them those that turn the direction of writing, are not,
// nor are characters without a meaning and those for private use.
func isHarmless(r rune) bool {
	if r == ' ' {
		return true
	}
	return unicode.IsGraphic(r) && !unicode.Is(unicode.Zs, r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) &&
		!unicode.Is(unicode.Variation_Selector, r)
}
