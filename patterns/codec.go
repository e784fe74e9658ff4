package patterns

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/motifmq/motif/adapters"
)

// Codec turns values into payloads and back. It must be safe for concurrent
// use. Protobuf's is github.com/motifmq/motif/patterns/protobuf, a module of its own.
type Codec interface {
	// ContentType is the media type of what Encode makes. Decode gets what came with the same one,
	// parameters aside, and what came with a type that has it as suffix: application/vnd.order+json
	// is for the codec for application/json, if there is no other. It is constant.
	//
	// Text (a type that begins with text/ or has a charset, JSON, XML) is given to Decode in UTF-8,
	// or in the charset that is named here, whatever it was sent in; a charset that is not known
	// is an error.
	ContentType() string

	// Encode returns the payload for v. It must not keep v.
	Encode(v any) ([]byte, error)

	// Decode fills what v points to. It must not keep data or write to it.
	Decode(data []byte, v any) error
}

// ErrCodec: a value could not be encoded, or a payload not decoded.
var ErrCodec = errors.New("motif: codec")

// JSON is encoding/json, as application/json. It also decodes text/json and all types that end in
// +json. On receipt a byte order mark is skipped, and what is not UTF-8 is refused.
type JSON struct {
	// DisallowUnknownFields refuses objects with fields that the value has no place for.
	DisallowUnknownFields bool

	// UseNumber decodes a number into an any as a [json.Number], which has all its digits, and not
	// as a float64, which has no 2^53+1.
	UseNumber bool
}

// ContentType returns application/json.
func (JSON) ContentType() string { return "application/json" }

// Encode encodes v as [json.Marshal] does.
func (JSON) Encode(v any) ([]byte, error) { return json.Marshal(v) }

// Decode decodes one value, after which nothing else may come.
func (c JSON) Decode(data []byte, v any) error {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(data) { // encoding/json would put other characters in place of what is wrong
		return errors.New("JSON codec: not UTF-8")
	}
	if c == (JSON{}) {
		return json.Unmarshal(data, v)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if c.DisallowUnknownFields {
		d.DisallowUnknownFields()
	}
	if c.UseNumber {
		d.UseNumber()
	}
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("JSON codec: something comes after the value")
	}
	return nil
}

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

// Raw is a payload as it came, whatever its content type, and still compressed if it was: for a
// queue whose messages nobody knows the type of, as dead letters may be. It is sent with
// [AsReceived] only, which says what it is.
type Raw []byte

// Decode decodes a payload into what v points to as a subscription of the bus would: by its content
// type and encoding, as a [Delivery] has them. It is for what was received as a [Raw], or without
// the bus. An error wraps [ErrCodec] or ErrTooLarge.
func (b *Bus) Decode(contentType, contentEncoding string, payload []byte, v any) error {
	if b.err != nil {
		return b.err
	}
	return b.codecs.unmarshal(contentType, contentEncoding, payload, v)
}

// codecs makes payloads and reads them, for a bus or a part of it.
type codecs struct {
	encode      format
	contentType string // encode's
	byType      map[string]*format
	types       *typeSet // of a pattern that has several
	envelope    Envelope // of a pattern that has one
	coding      Coding   // that payloads are compressed with; "" for none
	max         int      // bytes of a payload that is not compressed
	maxBody     int      // bytes of one as it travels
}

// encodingConfig is what options say of payloads.
type encodingConfig struct {
	codec  Codec
	others []Codec
	coding Coding

	types    *typeSet // of a queue or an exchange
	envelope Envelope
}

func newCodecs(cfg encodingConfig, max, maxBody int) (*codecs, error) {
	if cfg.codec == nil {
		cfg.codec = JSON{}
	}
	c := &codecs{byType: map[string]*format{}, max: max, maxBody: min(max, maxBody)}
	cfg.others = append([]Codec{JSON{}, Text{}, Bytes{}}, cfg.others...)
	return c.with(cfg)
}

// with returns codecs that are others where cfg says so.
func (c *codecs) with(cfg encodingConfig) (*codecs, error) {
	if cfg.codec == nil && cfg.coding == "" && cfg.types == nil && cfg.envelope == nil {
		return c, nil
	}
	changed := *c
	if cfg.types != nil {
		changed.types = cfg.types
	}
	if cfg.envelope != nil {
		changed.envelope = cfg.envelope
	}
	if cfg.coding != "" {
		changed.coding = cfg.coding
	}
	if cfg.coding == Identity {
		changed.coding = ""
	}
	if cfg.codec == nil {
		return &changed, nil
	}
	changed.byType = maps.Clone(c.byType)
	for _, codec := range append(slices.Clone(cfg.others), cfg.codec) {
		if codec == nil {
			return nil, invalid("nil codec")
		}
		f, err := newFormat(codec)
		if err != nil {
			return nil, err
		}
		changed.byType[f.mediaType], changed.encode = &f, f
	}
	changed.contentType = changed.encode.ContentType()
	return &changed, nil
}

func (c *codecs) marshal(v any) ([]byte, error) {
	data, err := c.encodeValue(v)
	if err != nil {
		return nil, err
	}
	return c.pack(v, data)
}

func (c *codecs) encodeValue(v any) ([]byte, error) {
	if _, raw := v.(Raw); raw {
		return nil, fmt.Errorf("%w: Raw is sent with AsReceived only: its content type is not known", ErrCodec)
	}
	data, err := c.encode.Encode(v)
	if err != nil {
		return nil, fmt.Errorf("%w: encoding %T: %w", ErrCodec, v, err)
	}
	return data, nil
}

// pack compresses what was encoded for v.
func (c *codecs) pack(v any, data []byte) (_ []byte, err error) {
	if err := checkSize(data, c.max); err != nil || c.coding == "" && c.max == c.maxBody {
		return data, err
	}
	if data, err = compress(c.coding, data); err != nil {
		return nil, fmt.Errorf("%w: compressing %T: %w", ErrCodec, v, err)
	}
	return data, checkSize(data, c.maxBody)
}

func checkSize(data []byte, max int) error {
	if len(data) > max {
		return fmt.Errorf("%w: payload of %d bytes, at most %d are allowed", adapters.ErrTooLarge, len(data), max)
	}
	return nil
}

func (c *codecs) unmarshal(contentType, contentEncoding string, data []byte, v any) error {
	if err := checkSize(data, c.max); err != nil {
		return err
	}
	if raw, ok := v.(*Raw); ok {
		*raw = slices.Clone(data)
		return nil
	}
	f := &c.encode
	if contentEncoding != "" || contentType != "" && contentType != c.contentType {
		var err error
		if f, data, err = c.read(contentType, contentEncoding, data); err != nil {
			if errors.Is(err, adapters.ErrTooLarge) {
				return err
			}
			return fmt.Errorf("%w: %w", ErrCodec, err)
		}
	}
	if err := decode(f, data, v); err != nil {
		return fmt.Errorf("%w: decoding %s: %w", ErrCodec, strings.TrimPrefix(fmt.Sprintf("%T", v), "*"), err)
	}
	return nil
}

// read returns the codec for a payload, and the payload as that codec takes it.
func (c *codecs) read(contentType, contentEncoding string, data []byte) (f *format, _ []byte, err error) {
	defer recovered(&err)
	codings, charset, err := parseContentEncoding(contentEncoding)
	if err != nil {
		return nil, nil, err
	}
	f = &c.encode // also for those who say nothing
	if contentType != "" {
		mediaType, said, err := parseContentType(contentType)
		if err != nil {
			return nil, nil, err
		}
		if said != "" {
			charset = said
		}
		if f = c.find(mediaType); f == nil {
			return nil, nil, fmt.Errorf("no codec for content type %q", clip(contentType, 64))
		}
	}
	if data, err = expand(codings, data, c.max); err != nil {
		return nil, nil, err
	}
	data, err = f.inCharset(charset, data)
	return f, data, err
}

func (c *codecs) find(mediaType string) *format {
	for _, name := range alternatives(mediaType) {
		if f := c.byType[name]; f != nil {
			return f
		}
	}
	return nil
}

func decode(codec Codec, data []byte, v any) (err error) {
	defer recovered(&err)
	return codec.Decode(data, v)
}

// recovered makes an error of a panic, where it is deferred: an UnmarshalJSON that trips over what
// it is sent would else be tried again, or leave a message in the hand of a Get.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}
