package patterns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// Charset decodes text. It must be safe for concurrent use.
type Charset interface {
	// Name is the charset's name in IANA's registry, the same by whichever it was found.
	Name() string

	// Decode returns data in UTF-8. What is not in the charset is an error: nothing is put in its
	// place. It must not keep data or write to it. What is not UTF-8, or more than four bytes for
	// each of data, is refused.
	Decode(data []byte) ([]byte, error)
}

const charsetPackage = "github.com/motifmq/motif/patterns/charset"

var (
	charsetsMu sync.RWMutex
	charsets   []func(name string) Charset
)

// RegisterCharsets makes charsets known to every bus of the program, for text that is received.
// Find returns the one with a name, in whatever case, or nil; it must be safe for concurrent use.
// It is asked for what is known neither here (UTF-8, US-ASCII, ISO-8859-1 and UTF-16 are) nor to
// those that were registered earlier. A package that has charsets calls it from its init function,
// as github.com/motifmq/motif/patterns/charset does, which has nearly all there are. It panics if
// find is nil. It is safe for concurrent use.
func RegisterCharsets(find func(name string) Charset) {
	if find == nil {
		panic("motif: RegisterCharsets of nil")
	}
	charsetsMu.Lock()
	defer charsetsMu.Unlock()
	charsets = append(charsets, find)
}

// charsetNamed finds a charset by any of its names. Its error says what to import where that was
// not done.
func charsetNamed(name string) (Charset, error) {
	name = strings.TrimSpace(name)
	if c := findCharset(name); c != nil {
		return c, nil
	}
	if findCharset("windows-1252") == nil { // the most common one that is not known here
		return nil, fmt.Errorf("this program has no charset %q: import _ %q", clip(name, 64), charsetPackage)
	}
	return nil, fmt.Errorf("charset %q is not known", clip(name, 64))
}

func findCharset(name string) Charset {
	for _, c := range builtinCharsets {
		if slices.Contains(c.names, strings.ToLower(name)) {
			return c
		}
	}
	charsetsMu.RLock()
	defer charsetsMu.RUnlock()
	for _, find := range charsets {
		if c := find(name); c != nil {
			return c
		}
	}
	return nil
}

// charsetPrefixes begin the names of charsets. A name that is met where nothing says that it is
// one, as in "application/json; windows-1252", is taken for one by these, too: else the text would
// be taken for UTF-8 by a program that does not know the charset.
var charsetPrefixes = []string{
	"ansi_x3", "big5", "cp1", "cp3", "cp4", "cp8", "cp9", "euc", "gb1", "gb2", "gbk", "hz-", "ibm", "iso-2", "iso-8", "iso2", "iso8", "iso_8",
	"jis", "koi8", "ks_c", "latin", "mac", "shift", "sjis", "tis-6", "ucs-", "utf", "viscii", "windows-", "x-euc", "x-mac", "x-sjis",
}

// isCharset reports whether name is that of a charset, known or not.
func isCharset(name string) bool {
	return findCharset(name) != nil || slices.ContainsFunc(charsetPrefixes, func(p string) bool { return strings.HasPrefix(strings.ToLower(name), p) })
}

// toUTF8 decodes text in a charset, and looks at what it gets.
func toUTF8(is Charset, name string, data []byte) ([]byte, error) {
	text, err := is.Decode(data)
	switch {
	case err != nil:
		return nil, fmt.Errorf("payload is not in charset %s: %w", name, err)
	case !utf8.Valid(text), len(text) > utf8.UTFMax*len(data):
		return nil, fmt.Errorf("payload is not in charset %s, or what decodes it is wrong: %d bytes became %d", name, len(data), len(text))
	}
	return text, nil
}

// builtinCharset is one that the standard library is enough for.
type builtinCharset struct {
	names  []string // of which the first, in upper case, is the one
	decode func(data []byte) ([]byte, error)
}

func (c *builtinCharset) Name() string                       { return strings.ToUpper(c.names[0]) }
func (c *builtinCharset) Decode(data []byte) ([]byte, error) { return c.decode(data) }

var utf8Charset = &builtinCharset{[]string{"utf-8", "utf8", "csutf8", "unicode-1-1-utf-8"}, decodeUTF8}

// The names are IANA's, and some that are common without its say.
var builtinCharsets = []*builtinCharset{
	utf8Charset,
	{[]string{"us-ascii", "ascii", "us", "ansi_x3.4-1968", "ansi_x3.4-1986", "iso-ir-6", "iso_646.irv:1991", "iso646-us", "ibm367", "cp367", "csascii"}, decodeASCII},
	{[]string{"iso-8859-1", "latin1", "l1", "iso_8859-1", "iso_8859-1:1987", "iso8859-1", "iso8859_1", "iso88591", "iso-ir-100", "ibm819", "cp819", "csisolatin1"}, decodeLatin1},
	{[]string{"utf-16", "utf16", "csutf16"}, decodeUTF16},
	{[]string{"utf-16be", "csutf16be"}, func(data []byte) ([]byte, error) { return decodeUTF16In(binary.BigEndian, data) }},
	{[]string{"utf-16le", "csutf16le"}, func(data []byte) ([]byte, error) { return decodeUTF16In(binary.LittleEndian, data) }},
}

func decodeUTF8(data []byte) ([]byte, error) { return data, nil }

func decodeASCII(data []byte) ([]byte, error) {
	for i, b := range data {
		if b >= utf8.RuneSelf {
			return nil, fmt.Errorf("byte %d is %#x", i, b)
		}
	}
	return data, nil
}

func decodeLatin1(data []byte) ([]byte, error) {
	text := make([]byte, 0, len(data)+len(data)/8)
	for _, b := range data {
		text = utf8.AppendRune(text, rune(b))
	}
	return text, nil
}

// decodeUTF16 is by RFC 2781: a byte order mark says which it is, and is not part of the text; with
// none it is big-endian.
func decodeUTF16(data []byte) ([]byte, error) {
	if text, ok := bytes.CutPrefix(data, []byte("\xff\xfe")); ok {
		return decodeUTF16In(binary.LittleEndian, text)
	}
	return decodeUTF16In(binary.BigEndian, bytes.TrimPrefix(data, []byte("\xfe\xff")))
}

func decodeUTF16In(order binary.ByteOrder, data []byte) ([]byte, error) {
	if len(data)%2 != 0 {
		return nil, errors.New("half a character is at the end")
	}
	text := make([]byte, 0, len(data))
	for i := 0; i < len(data); i += 2 {
		r := rune(order.Uint16(data[i:]))
		if utf16.IsSurrogate(r) {
			i += 2
			if i == len(data) {
				return nil, errors.New("half of a pair of surrogates is at the end")
			}
			if r = utf16.DecodeRune(r, rune(order.Uint16(data[i:]))); r == utf8.RuneError {
				return nil, fmt.Errorf("half of a pair of surrogates before byte %d", i)
			}
		}
		text = utf8.AppendRune(text, r)
	}
	return text, nil
}
