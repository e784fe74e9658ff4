package patterns

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"runtime/debug"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/motifmq/motif/adapters"
)

// Codec turns values into payloads and back. It must be safe for concurrent
// use. Protobuf's is in the package protobuf below this one.
type Codec interface {
	// ContentType is the media type of what Encode makes; Decode gets what came
	// with the same one, parameters aside.
	ContentType() string

	// Encode returns the payload for v. It must not keep v.
	Encode(v any) ([]byte, error)

	// Decode fills what v points to. It must not keep data or write to it.
	Decode(data []byte, v any) error
}

// ErrCodec: a value could not be encoded, or a payload not decoded.
var ErrCodec = errors.New("motif: codec")

// JSON is encoding/json, as application/json.
type JSON struct{}

func (JSON) ContentType() string             { return "application/json" }
func (JSON) Encode(v any) ([]byte, error)    { return json.Marshal(v) }
func (JSON) Decode(data []byte, v any) error { return json.Unmarshal(data, v) }

// Text is for payloads of type string, as text/plain in UTF-8. It refuses
// what is not UTF-8.
type Text struct{}

func (Text) ContentType() string { return "text/plain; charset=utf-8" }

func (Text) Encode(v any) ([]byte, error) {
	s, ok := v.(string)
	switch {
	case !ok:
		return nil, fmt.Errorf("text codec: %T is not a string", v)
	case !utf8.ValidString(s):
		return nil, errors.New("text codec: not UTF-8")
	}
	return []byte(s), nil
}

func (Text) Decode(data []byte, v any) error {
	p, ok := v.(*string)
	switch {
	case !ok:
		return fmt.Errorf("text codec: %T is not a *string", v)
	case !utf8.Valid(data):
		return errors.New("text codec: not UTF-8")
	}
	*p = string(data)
	return nil
}

// Bytes is for payloads of type []byte (and string), as
// application/octet-stream, unchanged.
type Bytes struct{}

func (Bytes) ContentType() string { return "application/octet-stream" }

func (Bytes) Encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	}
	return nil, fmt.Errorf("bytes codec: %T is neither []byte nor string", v)
}

func (Bytes) Decode(data []byte, v any) error {
	switch v := v.(type) {
	case *[]byte:
		*v = slices.Clone(data)
	case *string:
		*v = string(data)
	default:
		return fmt.Errorf("bytes codec: %T is neither *[]byte nor *string", v)
	}
	return nil
}

// Raw is a payload as it came, whatever its content type: for a queue whose
// messages nobody knows the type of, as dead letters may be. It is sent with
// [AsReceived] only, which says what it is.
type Raw []byte

// codecs finds the codec for a content type.
type codecs struct {
	encode      Codec
	contentType string // encode's
	byType      map[string]Codec
	max         int
}

func newCodecs(encode Codec, others []Codec, max int) (*codecs, error) {
	c := &codecs{encode: encode, contentType: encode.ContentType(), byType: map[string]Codec{}, max: max}
	for _, codec := range append([]Codec{JSON{}, Text{}, Bytes{}}, others...) {
		if codec == nil {
			return nil, invalid("nil codec")
		}
		c.byType[mediaType(codec.ContentType())] = codec
	}
	return c, nil
}

func (c *codecs) marshal(v any) ([]byte, error) {
	if _, raw := v.(Raw); raw {
		return nil, fmt.Errorf("%w: Raw is sent with AsReceived only: its content type is not known", ErrCodec)
	}
	data, err := c.encode.Encode(v)
	if err != nil {
		return nil, fmt.Errorf("%w: encoding %T: %w", ErrCodec, v, err)
	}
	return data, c.fits(data)
}

func (c *codecs) fits(payload []byte) error {
	if len(payload) > c.max {
		return fmt.Errorf("%w: payload of %d bytes, at most %d are allowed", adapters.ErrTooLarge, len(payload), c.max)
	}
	return nil
}

func (c *codecs) unmarshal(contentType string, data []byte, v any) error {
	if err := c.fits(data); err != nil {
		return err
	}
	if raw, ok := v.(*Raw); ok {
		*raw = slices.Clone(data)
		return nil
	}
	codec := c.encode // also for those who say nothing
	if contentType != "" && contentType != c.contentType {
		var ok bool
		if codec, ok = c.byType[mediaType(contentType)]; !ok {
			return fmt.Errorf("%w: no codec for content type %q", ErrCodec, contentType)
		}
	}
	if err := decode(codec, data, v); err != nil {
		return fmt.Errorf("%w: decoding %s: %w", ErrCodec, strings.TrimPrefix(fmt.Sprintf("%T", v), "*"), err)
	}
	return nil
}

// decode makes an error of a panic: an UnmarshalJSON that trips over what it
// is sent would else be tried again, or leave a message in the hand of a Get.
func decode(codec Codec, data []byte, v any) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return codec.Decode(data, v)
}

// mediaType strips the parameters. What does not parse stays as it is, and
// finds no codec.
func mediaType(contentType string) string {
	if t, _, err := mime.ParseMediaType(contentType); err == nil {
		return t
	}
	return strings.ToLower(contentType)
}
