package patterns

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// maxCodings is how often a payload may be compressed over again.
const maxCodings = 4

// parseContentEncoding returns the codings that were applied, in that order. Some clients put the
// charset there, which is then returned, too, or the words that mail has for no coding at all.
func parseContentEncoding(s string) (codings []Coding, charset string, err error) {
	separator := func(r rune) bool { return strings.ContainsRune(",:; \t", r) } // Spring writes gzip:UTF-8
	for _, name := range strings.FieldsFunc(strings.ToLower(s), separator) {
		switch name {
		case "identity", "binary", "7bit", "8bit":
			continue
		case "x-gzip":
			name = string(Gzip)
		}
		_, unknown := compressionNamed(Coding(name))
		switch {
		case unknown == nil || Coding(name) == Zstd:
			codings = append(codings, Coding(name)) // a zstd that is missing is named when it is used
		case isCharset(name):
			charset = name
		default:
			return nil, "", unknown
		}
	}
	if len(codings) > maxCodings {
		return nil, "", fmt.Errorf("content encoding of %d codings, at most %d are decoded", len(codings), maxCodings)
	}
	return codings, charset, nil
}

// compress returns data in a coding.
func compress(coding Coding, data []byte) ([]byte, error) {
	if coding == "" {
		return data, nil
	}
	c, err := compressionNamed(coding)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := c.NewWriter(&out)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(data)
	if closing := w.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// expand undoes codings. What would be larger than limit at any step is ErrTooLarge, and not read
// further than that.
func expand(codings []Coding, data []byte, limit int) (_ []byte, err error) {
	for i := len(codings) - 1; i >= 0; i-- {
		if data, err = expandOne(codings[i], data, limit); err != nil {
			return nil, fmt.Errorf("%s: %w", codings[i], err)
		}
	}
	return data, nil
}

func expandOne(coding Coding, data []byte, limit int) (_ []byte, err error) {
	c, err := compressionNamed(coding)
	if err != nil || len(data) == 0 {
		return data, err // what has no body is not compressed, whatever it says
	}
	from := bytes.NewReader(data)
	expanded, err := c.NewReader(from, limit)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(expanded, max(int64(limit), int64(limit)+1)))
	if closing := expanded.Close(); err == nil {
		err = closing
	}
	switch {
	case len(out) > limit:
		return nil, fmt.Errorf("%w: the payload expands to more than %d bytes", adapters.ErrTooLarge, limit)
	case err != nil:
		return nil, err
	case from.Len() > 0:
		return nil, fmt.Errorf("%d bytes come after the end", from.Len())
	}
	return out, nil
}
