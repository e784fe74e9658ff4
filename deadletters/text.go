package deadletters

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// maxText bounds what a payload may unpack to.
const maxText = 16 << 20

// Text returns the payload, unpacked if its content encoding is gzip or deflate. An encoding that
// is unknown here is ErrUnsupported, and more than 16 MiB of text ErrTooLarge.
func (l *Letter) Text() ([]byte, error) {
	payload := []byte(l.Message.Payload)
	var r io.Reader
	var err error
	switch strings.ToLower(strings.TrimSpace(l.ContentEncoding)) {
	case "", "identity", "utf-8", "utf8":
		return payload, nil
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(bytes.NewReader(payload))
	case "deflate":
		if r, err = zlib.NewReader(bytes.NewReader(payload)); err != nil {
			r, err = flate.NewReader(bytes.NewReader(payload)), nil
		}
	default:
		return nil, fmt.Errorf("%w: content encoding %q", adapters.ErrUnsupported, Printable(l.ContentEncoding, 64))
	}
	if err != nil {
		return nil, fmt.Errorf("the payload does not unpack: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxText+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the payload does not unpack: %w", err)
	case len(text) > maxText:
		return nil, fmt.Errorf("%w: the payload unpacks to more than %d bytes", adapters.ErrTooLarge, maxText)
	}
	return text, nil
}
