package patterns

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/motifmq/motif/adapters"
)

// Coding is a way to compress payloads, under the name that HTTP has for it. It travels as the
// message's content encoding.
type Coding string

// The codings there are. All of them are understood on receipt, several in turn, too.
const (
	Identity Coding = "identity" // not compressed
	Gzip     Coding = "gzip"
	Deflate  Coding = "deflate" // zlib's format, as HTTP has it; without its header, too, on receipt
	Zstd     Coding = "zstd"
)

// maxCodings is how often a payload may be compressed over again.
const maxCodings = 4

// parseContentEncoding returns the codings that were applied, in that order. Some clients put the
// charset there, which is then returned, too, or the words that mail has for no coding at all.
func parseContentEncoding(s string) (codings []Coding, charset string, err error) {
	separator := func(r rune) bool { return strings.ContainsRune(",:; \t", r) } // Spring writes gzip:UTF-8
	for _, name := range strings.FieldsFunc(strings.ToLower(s), separator) {
		switch name {
		case "gzip", "x-gzip":
			codings = append(codings, Gzip)
		case "deflate", "zstd":
			codings = append(codings, Coding(name))
		case "identity", "binary", "7bit", "8bit":
		default:
			if _, err := charsetNamed(name); err != nil {
				return nil, "", fmt.Errorf("content encoding %q is not known, only gzip, deflate and zstd are", clip(name, 64))
			}
			charset = name
		}
	}
	if len(codings) > maxCodings {
		return nil, "", fmt.Errorf("content encoding of %d codings, at most %d are decoded", len(codings), maxCodings)
	}
	return codings, charset, nil
}

// compression compresses payloads and expands them, to at most max bytes.
type compression struct {
	max   int
	zstd  func() (*zstd.Encoder, error)
	dzstd func() (*zstd.Decoder, error)
}

// zstdWindow is how far back a sender may refer, whatever max is: RFC 9659 has it so for HTTP.
const zstdWindow = 8 << 20

func newCompression(limit int) *compression {
	return &compression{
		max: limit,
		zstd: sync.OnceValues(func() (*zstd.Encoder, error) {
			return zstd.NewWriter(nil, zstd.WithLowerEncoderMem(true))
		}),
		dzstd: sync.OnceValues(func() (*zstd.Decoder, error) {
			return zstd.NewReader(nil, zstd.WithDecoderMaxMemory(uint64(max(limit, zstdWindow))))
		}),
	}
}

var (
	gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	zlibWriters = sync.Pool{New: func() any { return zlib.NewWriter(nil) }}
)

// compress returns data in a coding.
func (c *compression) compress(coding Coding, data []byte) ([]byte, error) {
	switch coding {
	case Gzip:
		w := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(w)
		return written(w, data)
	case Deflate:
		w := zlibWriters.Get().(*zlib.Writer)
		defer zlibWriters.Put(w)
		return written(w, data)
	case Zstd:
		encoder, err := c.zstd()
		if err != nil {
			return nil, err
		}
		return encoder.EncodeAll(data, nil), nil
	default:
		return data, nil
	}
}

type resetter interface {
	io.WriteCloser
	Reset(io.Writer)
}

func written(w resetter, data []byte) ([]byte, error) {
	var out bytes.Buffer
	w.Reset(&out)
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// expand undoes codings. What would be larger than max at any step is ErrTooLarge, and not read
// further than that.
func (c *compression) expand(codings []Coding, data []byte) (_ []byte, err error) {
	for i := len(codings) - 1; i >= 0; i-- {
		if data, err = c.expandOne(codings[i], data); err != nil {
			return nil, fmt.Errorf("%s: %w", codings[i], err)
		}
	}
	return data, nil
}

func (c *compression) expandOne(coding Coding, data []byte) ([]byte, error) {
	if len(data) == 0 {
		return data, nil // what has no body is not compressed, whatever it says
	}
	from := bytes.NewReader(data)
	var expanded io.ReadCloser
	var err error
	switch coding {
	case Gzip:
		expanded, err = gzip.NewReader(from)
	case Zstd:
		return c.expandZstd(data)
	default:
		if isZlib(data) {
			expanded, err = zlib.NewReader(from)
		} else { // there are senders that take the name at its word
			expanded = flate.NewReader(from)
		}
	}
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(expanded, int64(c.max)+1))
	switch {
	case err != nil:
		return nil, err
	case len(out) > c.max:
		return nil, c.tooLarge()
	case from.Len() > 0:
		return nil, fmt.Errorf("%d bytes come after the end", from.Len())
	}
	return out, nil
}

func (c *compression) expandZstd(data []byte) ([]byte, error) {
	decoder, err := c.dzstd()
	if err != nil {
		return nil, err
	}
	out, err := decoder.DecodeAll(data, nil)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded), len(out) > c.max:
		return nil, c.tooLarge()
	case err != nil:
		return nil, err
	}
	return out, nil
}

func (c *compression) tooLarge() error {
	return fmt.Errorf("%w: the payload expands to more than %d bytes", adapters.ErrTooLarge, c.max)
}

// isZlib reports whether data begins with zlib's header: the method, and a sum over both bytes.
func isZlib(data []byte) bool {
	return len(data) >= 2 && data[0]&0x0f == 8 && (int(data[0])<<8|int(data[1]))%31 == 0
}
