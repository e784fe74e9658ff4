package patterns

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Coding is a way to compress payloads, under the name that HTTP has for it. It travels as the
// message's content encoding.
type Coding string

// The codings that have a name here. What is sent in any that is known is understood on receipt,
// several in turn, too. Zstd is known to programs that import
// github.com/motifmq/motif/patterns/zstd, which is a module of its own.
const (
	Identity Coding = "identity" // not compressed
	Gzip     Coding = "gzip"
	Deflate  Coding = "deflate" // zlib's format, as HTTP has it; without its header, too, on receipt
	Zstd     Coding = "zstd"
)

const zstdPackage = "github.com/motifmq/motif/patterns/zstd"

// Compression is how payloads are compressed and expanded in a [Coding]. Its functions must be safe
// for concurrent use; what they return is used by one goroutine.
type Compression struct {
	// NewWriter returns a writer that compresses to w. Its Close writes what is left, and does not
	// close w.
	NewWriter func(w io.Writer) (io.WriteCloser, error)

	// NewReader returns a reader that expands what r has, to its end: several payloads one after
	// the other are one. Limit is the bus's [MaxPayload]. The reader is asked for one byte more at
	// most, however much there is; what would take much more memory than that before it can be
	// read is its own to refuse, with an error that is [adapters.ErrTooLarge].
	NewReader func(r *bytes.Reader, limit int) (io.ReadCloser, error)
}

var (
	compressionsMu sync.RWMutex
	compressions   = map[Coding]Compression{Gzip: gzipCompression, Deflate: deflateCompression}
)

// RegisterCoding makes a coding known to every bus of the program, for what is sent with [Compress]
// and for what is received. The name is in lower case, as in IANA's registry of HTTP content
// codings. A package that has a coding calls it from its init function, so that a blank import is
// all that it takes. It panics if the coding is known already, or c lacks a function. It is safe
// for concurrent use.
func RegisterCoding(name Coding, c Compression) {
	compressionsMu.Lock()
	defer compressionsMu.Unlock()
	_, taken := compressions[name]
	switch {
	case name == "" || string(name) != strings.ToLower(string(name)) || strings.ContainsAny(string(name), ",:; \t"):
		panic(fmt.Sprintf("motif: %q is no name of a coding", name))
	case c.NewWriter == nil || c.NewReader == nil:
		panic("motif: coding " + string(name) + " without a function")
	case taken || name == Identity:
		panic("motif: coding " + string(name) + " is registered twice")
	}
	compressions[name] = c
}

// compressionNamed finds what was registered. Its error says which there are, or what to import.
func compressionNamed(name Coding) (Compression, error) {
	compressionsMu.RLock()
	defer compressionsMu.RUnlock()
	if c, ok := compressions[name]; ok {
		return c, nil
	}
	if name == Zstd {
		return Compression{}, fmt.Errorf("this program has no zstd: import _ %q", zstdPackage)
	}
	var known []string
	for _, c := range slices.Sorted(maps.Keys(compressions)) {
		known = append(known, string(c))
	}
	return Compression{}, fmt.Errorf("content encoding %q is not known, only %s are", clip(string(name), 64), strings.Join(known, ", "))
}

var gzipCompression = Compression{
	NewWriter: pooled(func() resetter { return gzip.NewWriter(nil) }),
	NewReader: func(r *bytes.Reader, _ int) (io.ReadCloser, error) { return gzip.NewReader(r) },
}

var deflateCompression = Compression{
	NewWriter: pooled(func() resetter { return zlib.NewWriter(nil) }),
	NewReader: func(r *bytes.Reader, _ int) (io.ReadCloser, error) {
		if hasZlibHeader(r) {
			return zlib.NewReader(r)
		}
		return flate.NewReader(r), nil // there are senders that take the name at its word
	},
}

// hasZlibHeader reports whether what r has begins with zlib's header: the method, and a sum over
// both bytes. It takes nothing from r.
func hasZlibHeader(r *bytes.Reader) bool {
	var header [2]byte
	n, _ := r.ReadAt(header[:], 0)
	return n == 2 && header[0]&0x0f == 8 && (int(header[0])<<8|int(header[1]))%31 == 0
}

// resetter is what writers of the standard library are, so that they can be used again.
type resetter interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// pooled makes a NewWriter of what makes writers, which then are used again after their Close.
func pooled(create func() resetter) func(io.Writer) (io.WriteCloser, error) {
	var pool sync.Pool
	return func(w io.Writer) (io.WriteCloser, error) {
		p, ok := pool.Get().(*pooledWriter)
		if !ok {
			p = &pooledWriter{create(), &pool}
		}
		p.Reset(w)
		return p, nil
	}
}

type pooledWriter struct {
	resetter
	pool *sync.Pool
}

func (p *pooledWriter) Close() error {
	defer p.pool.Put(p)
	return p.resetter.Close()
}
