package patterns

import (
	"fmt"
	"mime"
	"strings"
)

// parseContentType returns the media type, in lower case, and the charset, or "" where there is
// none. What is wrong with the parameters hides neither, but for a charset that is given twice.
func parseContentType(s string) (mediaType, charset string, err error) {
	if mediaType, params, err := mime.ParseMediaType(s); err == nil {
		return mediaType, unquote(params["charset"]), nil
	}
	s = strings.TrimSpace(s)
	end := strings.IndexAny(s, " \t;,")
	if end < 0 {
		end = len(s)
	}
	for _, param := range splitParameters(s[end:]) {
		value := param
		if i := strings.IndexAny(param, "=:"); i >= 0 {
			if !strings.EqualFold(strings.TrimSpace(param[:i]), "charset") {
				continue
			}
			value = unquote(strings.TrimSpace(param[i+1:]))
		} else if !isCharset(strings.TrimSpace(param)) { // "application/json; utf-8" means one
			continue
		}
		if charset != "" && value != "" && !strings.EqualFold(charset, value) {
			return "", "", fmt.Errorf("content type %q has two charsets", clip(s, 64))
		}
		charset = value
	}
	return strings.ToLower(s[:end]), charset, nil
}

func unquote(s string) string { return strings.Trim(s, `"'`) }

// splitParameters splits at what separates parameters, outside of quotes.
func splitParameters(s string) []string {
	quoted := false
	return strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ';' || r == ',')
	})
}

// format is a codec, and what is known of its payloads.
type format struct {
	Codec
	mediaType string
	charset   string // that it has its payloads in; "" for UTF-8
	text      bool   // its payloads have a charset
}

func newFormat(c Codec) (format, error) {
	mediaType, charset, err := parseContentType(c.ContentType())
	if err != nil {
		return format{}, invalid("codec %T: %v", c, err)
	}
	f := format{Codec: c, mediaType: mediaType, charset: charset}
	f.text = charset != "" || strings.HasPrefix(mediaType, "text/")
	for _, name := range alternatives(mediaType) {
		f.text = f.text || name == "application/json" || name == "application/xml"
	}
	return f, nil
}

// alternatives are the names under which to look for the codec of a media type, in turn. A
// structured syntax suffix (RFC 6838, 4.2.8) names one that is good for it.
func alternatives(mediaType string) []string {
	names := []string{mediaType}
	if i := strings.LastIndexByte(mediaType, '+'); i >= 0 {
		mediaType = "application/" + mediaType[i+1:]
		names = append(names, mediaType)
	}
	switch mediaType {
	case "text/json":
		names = append(names, "application/json")
	case "text/xml":
		names = append(names, "application/xml")
	case "application/xml": // RFC 7303: the same
		names = append(names, "text/xml")
	}
	return names
}

// inCharset returns data, whose sender has it in a charset, as the codec of f wants it.
func (f *format) inCharset(charset string, data []byte) ([]byte, error) {
	if charset == "" || f.mediaType == (Bytes{}).ContentType() {
		return data, nil
	}
	is, err := charsetNamed(charset)
	if err != nil {
		return nil, err
	}
	want := Charset(utf8Charset)
	if f.charset != "" {
		if want, err = charsetNamed(f.charset); err != nil {
			return nil, err
		}
	}
	switch {
	case strings.EqualFold(is.Name(), want.Name()):
		return data, nil
	case !f.text || want != utf8Charset:
		return nil, fmt.Errorf("charset %q is not what the codec for %s takes", clip(charset, 64), f.mediaType)
	}
	return toUTF8(is, charset, data)
}
