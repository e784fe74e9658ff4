package cloudevents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/motifmq/motif/patterns"
)

// jsonFormat is the media type of CloudEvents' JSON event format.
const jsonFormat = "application/cloudevents+json"

// isJSON reports whether data of a content type is a JSON value.
func isJSON(contentType string) bool {
	mediaType := mediaTypeOf(contentType)
	return mediaType == "application/json" || mediaType == "text/json" || strings.HasSuffix(mediaType, "+json")
}

// formatJSON returns the JSON form of an event.
func formatJSON(a Attributes, data []byte) ([]byte, error) {
	members := make(map[string]any, 8)
	for name, value := range a.all() {
		members[name] = value
	}
	members["datacontenttype"] = a.DataContentType
	switch {
	case isJSON(a.DataContentType):
		members["data"] = json.RawMessage(data)
	case strings.HasPrefix(mediaTypeOf(a.DataContentType), "text/") && utf8.Valid(data):
		members["data"] = string(data)
	default:
		members["data_base64"] = data
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(members); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// parseJSON takes an event out of its JSON form, and makes its data the payload of c.
func parseJSON(c *patterns.Content) (a Attributes, hasData bool, err error) {
	_, params, err := mime.ParseMediaType(c.ContentType)
	if charset := params["charset"]; err == nil && charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		return a, false, fmt.Errorf("cloudevents: JSON in charset %q, only UTF-8 is taken", clip(charset))
	}
	text := bytes.TrimPrefix(c.Payload, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(text) { // encoding/json would put other characters in place of what is wrong
		return a, false, errors.New("cloudevents: JSON that is not UTF-8")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return a, false, fmt.Errorf("cloudevents: an event that is no JSON object: %w", err)
	}
	data, hasPlain := members["data"]
	encoded, hasBase64 := members["data_base64"]
	delete(members, "data")
	delete(members, "data_base64")
	named := make(map[string]string, len(members))
	for name, value := range members {
		text, ok, err := attributeText(value)
		switch {
		case !isName(name):
			return a, false, fmt.Errorf("cloudevents: no attribute can have the name %q", clip(name))
		case err != nil:
			return a, false, fmt.Errorf("cloudevents: attribute %s: %w", clip(name), err)
		case ok:
			named[name] = text
		}
	}
	if err := checkRequired(named); err != nil {
		return a, false, err
	}
	if a, err = newAttributes(named, ""); err != nil {
		return a, false, err
	}
	hasBase64 = hasBase64 && string(encoded) != "null"
	if hasPlain && hasBase64 {
		return a, false, errors.New("cloudevents: an event with both data and data_base64")
	}
	if a.DataContentType == "" {
		a.DataContentType = "application/json" // as the format has it
	}
	c.ContentType, c.Payload = a.DataContentType, nil
	switch {
	case hasBase64:
		if err := json.Unmarshal(encoded, &c.Payload); err != nil {
			return a, false, fmt.Errorf("cloudevents: data_base64: %w", err)
		}
	case hasPlain && isJSON(a.DataContentType):
		c.Payload, c.ContentType = data, mediaTypeOf(a.DataContentType) // whatever charset it was in: JSON is in the event's
	case hasPlain && string(data) != "null":
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return a, false, fmt.Errorf("cloudevents: data of type %s is no JSON, so that it has to be a string", clip(a.DataContentType))
		}
		c.Payload, c.ContentType = []byte(text), mediaTypeOf(a.DataContentType)
	}
	return a, hasBase64 || hasPlain, nil
}

// attributeText returns the string form of an attribute, or false for null, which is none.
func attributeText(value json.RawMessage) (text string, ok bool, err error) {
	switch value[0] {
	case 'n':
		return "", false, nil
	case '"':
		err = json.Unmarshal(value, &text)
		return text, true, err
	case 't', 'f':
		return string(value), true, nil
	case '{', '[':
		return "", false, errors.New("it is no simple value")
	}
	if bytes.ContainsAny(value, ".eE") {
		return "", false, errors.New("it is no whole number")
	}
	return string(value), true, nil
}
