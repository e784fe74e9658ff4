// Package charset makes charsets known to package patterns, by a blank import:
//
//	import _ "github.com/motifmq/motif/patterns/charset"
//
// Then text that is received in any charset that browsers or IANA have a name for, and
// golang.org/x/text a decoder, is decoded. Without it patterns knows UTF-8, US-ASCII, ISO-8859-1
// and UTF-16. It is a module of its own so that only its users depend on the tables:
//
//	go get github.com/motifmq/motif/patterns/charset
package charset

import (
	"bytes"
	"errors"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"

	"github.com/motifmq/motif/patterns"
)

func init() { patterns.RegisterCharsets(find) }

// find finds a charset by any name that IANA has for it, or else by one that browsers take.
func find(name string) patterns.Charset {
	e, err := ianaindex.MIME.Encoding(name)
	if err != nil || e == nil {
		if e, err = htmlindex.Get(name); err != nil || e == encoding.Replacement {
			return nil
		}
	}
	if iana, err := ianaindex.MIME.Name(e); err == nil && iana != "" {
		name = iana
	}
	return charset{e, name}
}

type charset struct {
	encoding encoding.Encoding
	name     string
}

func (c charset) Name() string { return c.name }

// Decode refuses what is not in the charset, for which the decoders put U+FFFD.
func (c charset) Decode(data []byte) ([]byte, error) {
	text, err := c.encoding.NewDecoder().Bytes(data)
	if err == nil && bytes.ContainsRune(text, utf8.RuneError) {
		if same, err := c.encoding.NewEncoder().Bytes(text); err != nil || !bytes.Equal(same, data) {
			return nil, errors.New("there are bytes that stand for no character")
		}
	}
	return text, err
}
