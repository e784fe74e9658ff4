// Package zstd makes zstd known to package patterns, by a blank import:
//
//	import _ "github.com/motifmq/motif/patterns/zstd"
//
// Then patterns.Compress(patterns.Zstd) sends payloads so, and those that are received so are
// expanded. It is a module of its own so that only its users depend on its compressor:
//
//	go get github.com/motifmq/motif/patterns/zstd
package zstd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

func init() {
	patterns.RegisterCoding(patterns.Zstd, patterns.Compression{NewWriter: newWriter, NewReader: newReader})
}

// window is how far back a sender may refer, whatever the limit is: RFC 9659 has it so for HTTP.
const window = 8 << 20

// Writers and readers are used again. With a concurrency of 1 they have no goroutines, so that none
// is left when the pool drops them.
var writers, readers sync.Pool

type writer struct{ *zstd.Encoder }

func newWriter(w io.Writer) (io.WriteCloser, error) {
	if e, ok := writers.Get().(*zstd.Encoder); ok {
		e.Reset(w)
		return writer{e}, nil
	}
	e, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return writer{e}, nil
}

func (w writer) Close() error {
	err := w.Encoder.Close()
	w.Reset(nil)
	writers.Put(w.Encoder)
	return err
}

type reader struct{ *zstd.Decoder }

func newReader(r *bytes.Reader, limit int) (io.ReadCloser, error) {
	maxWindow := zstd.WithDecoderMaxWindow(uint64(max(limit, window))) //nolint:gosec // it is positive
	if d, ok := readers.Get().(*zstd.Decoder); ok {
		return reader{d}, d.ResetWithOptions(r, maxWindow)
	}
	d, err := zstd.NewReader(r, maxWindow, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return reader{d}, nil
}

func (r reader) Read(p []byte) (int, error) {
	n, err := r.Decoder.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = fmt.Errorf("%w: %w", adapters.ErrTooLarge, err)
	}
	return n, err
}

func (r reader) Close() error {
	err := r.Reset(nil)
	readers.Put(r.Decoder)
	return err
}
