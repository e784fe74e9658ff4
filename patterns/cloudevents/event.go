package cloudevents

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// SpecVersion is the version of CloudEvents that is sent, and the only one received.
const SpecVersion = "1.0"

// Attributes are what an event says besides its data.
type Attributes struct {
	ID     string
	Source string // a URI reference; with ID, it tells an event from all others
	Type   string

	DataContentType string // of the data as it came; what is sent is of the codec's type
	DataSchema      string // a URI, or ""
	Subject         string
	Time            time.Time // zero if it is not known

	// Extensions are all other attributes, in their string form. Their names have lower-case
	// letters and digits only.
	Extensions map[string]string
}

// Event is a payload with the attributes of its event. Those that are zero when it is sent are as
// for any other payload, see the package.
type Event[T any] struct {
	Attributes
	Data T // the zero value if the event came without data
}

// event is an Event or a pointer to one.
type event interface{ parts() (Attributes, any) }

func (e Event[T]) parts() (Attributes, any) { return e.Attributes, e.Data }

// target is a pointer to an Event.
type target interface {
	fill(a Attributes) (data any)
}

func (e *Event[T]) fill(a Attributes) any {
	e.Attributes = a
	return &e.Data
}

// FromContext returns the attributes of the event that a handler was given, from the handler's ctx
// or one derived from it. It is false where there is none.
func FromContext(ctx context.Context) (Attributes, bool) {
	if c, ok := patterns.ContentFrom(ctx); ok {
		a, err := attributesOf(maps.Clone(c.Headers), c.ContentType, false)
		return a, err == nil
	}
	d, ok := patterns.DeliveryFrom(ctx)
	if !ok {
		return Attributes{}, false
	}
	a, err := FromDelivery(d)
	return a, err == nil
}

// FromDelivery returns the attributes of an event that was taken with Get or Waiting. It is an
// error if there is none, or it is compressed in structured mode.
func FromDelivery(d patterns.Delivery) (Attributes, error) {
	c := patterns.Content{ID: d.ID, Type: d.Type, ContentType: d.ContentType, Headers: maps.Clone(d.Headers), Payload: d.Payload}
	if c.Headers == nil {
		c.Headers = map[string]string{}
	}
	if d.ContentEncoding != "" && isStructured(d.ContentType) {
		return Attributes{}, fmt.Errorf("cloudevents: an event in structured mode with content encoding %q", clip(d.ContentEncoding))
	}
	a, _, err := unwrap(&c)
	return a, err
}

// Attribute gives the event that is sent an attribute, such as an extension. A name that has others
// than lower-case letters and digits is an error of the send, and so is an empty value.
func Attribute(name, value string) patterns.HeaderOption {
	return patterns.Header(PrefixAMQP+name, value)
}

// Subject is the attribute of that name: what in its source the event is about.
func Subject(subject string) patterns.HeaderOption { return Attribute("subject", subject) }

// The prefixes of headers that are attributes in binary mode.
const (
	PrefixAMQP     = "cloudEvents:" // of the AMQP protocol binding
	PrefixJMS      = "cloudEvents_" // of the same, for receivers whose names have no colon
	PrefixRabbitMQ = "ce-"          // of Knative's RabbitMQ binding, and of the SDKs that follow it
)

// attributesOf takes the attributes out of headers. Names that no attribute can have are an error
// if strict, and left where they are if not: they may mean something else.
func attributesOf(headers map[string]string, contentType string, strict bool) (Attributes, error) {
	found := map[string]string{}
	for key, value := range headers {
		name, ok := cutPrefix(key)
		if !ok {
			continue
		}
		if !isName(name) {
			if strict && strings.HasPrefix(key, PrefixAMQP) {
				return Attributes{}, fmt.Errorf("%w: cloudevents: no attribute can have the name %q", adapters.ErrInvalid, clip(name))
			}
			continue
		}
		if other, twice := found[name]; twice && other != value {
			return Attributes{}, fmt.Errorf("cloudevents: two values of attribute %s", clip(name))
		}
		found[name] = value
		delete(headers, key)
	}
	if !strict {
		if err := checkRequired(found); err != nil {
			return Attributes{}, err
		}
	}
	delete(found, "datacontenttype") // the message itself has that
	return newAttributes(found, contentType)
}

// checkRequired returns which attributes are missing that each event has.
func checkRequired(named map[string]string) error {
	var missing []string
	for _, name := range [...]string{"specversion", "id", "source", "type"} {
		if named[name] == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("cloudevents: no event, for it has no %s", strings.Join(missing, ", no "))
	}
	return nil
}

func cutPrefix(key string) (name string, ok bool) {
	for _, prefix := range []string{PrefixAMQP, PrefixJMS, PrefixRabbitMQ} {
		if len(key) > len(prefix) && strings.EqualFold(key[:len(prefix)], prefix) {
			name = key[len(prefix):]
			if lower := strings.ToLower(name); isName(lower) { // as some gateways write it
				name = lower
			}
			return name, true
		}
	}
	return "", false
}

func isName(s string) bool {
	for _, r := range []byte(s) {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// newAttributes sorts attributes by their names. Empty ones are as good as missing.
func newAttributes(named map[string]string, contentType string) (a Attributes, err error) {
	a.DataContentType = contentType
	for name, value := range named {
		if value == "" {
			continue
		}
		switch name {
		case "specversion":
			if value != SpecVersion {
				return a, fmt.Errorf("cloudevents: specversion %q, only %s is known", clip(value), SpecVersion)
			}
		case "id":
			a.ID = value
		case "source":
			a.Source = value
		case "type":
			a.Type = value
		case "datacontenttype":
			a.DataContentType = value
		case "dataschema":
			a.DataSchema = value
		case "subject":
			a.Subject = value
		case "time":
			if a.Time, err = parseTime(value); err != nil {
				return a, err
			}
		default:
			if a.Extensions == nil {
				a.Extensions = map[string]string{}
			}
			a.Extensions[name] = value
		}
	}
	return a, nil
}

// parseTime parses a timestamp. Some AMQP clients send it as a number, of milliseconds.
func parseTime(s string) (time.Time, error) {
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.UnixMilli(ms).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, strings.ToUpper(s))
	if err != nil {
		return t, fmt.Errorf("cloudevents: time %q is not in the form of RFC 3339", clip(s))
	}
	return t, nil
}

// check returns what is wrong.
func (a Attributes) check() error {
	if _, err := url.Parse(a.Source); err != nil {
		return fmt.Errorf("cloudevents: source %q is no URI reference", clip(a.Source))
	}
	if a.DataSchema != "" {
		if u, err := url.Parse(a.DataSchema); err != nil || !u.IsAbs() {
			return fmt.Errorf("cloudevents: dataschema %q is no URI", clip(a.DataSchema))
		}
	}
	return nil
}

// checkSent also returns what is wrong only for who sends it.
func (a Attributes) checkSent() error {
	if err := checkRequired(a.all()); err != nil {
		return err
	}
	if err := a.check(); err != nil {
		return err
	}
	if year := a.Time.Year(); year < 0 || year > 9999 {
		return fmt.Errorf("cloudevents: the time is in year %d", year)
	}
	for name, value := range a.all() {
		if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			return fmt.Errorf("cloudevents: attribute %s with control characters, or not in UTF-8", clip(name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Extensions)) {
		switch {
		case !isName(name) || name == "data" || core[name]:
			return fmt.Errorf("cloudevents: no extension can have the name %q", clip(name))
		case a.Extensions[name] == "":
			return fmt.Errorf("cloudevents: extension %s is empty", name)
		}
	}
	return nil
}

// core are the attributes that are no extensions.
var core = map[string]bool{
	"specversion": true, "id": true, "source": true, "type": true, "datacontenttype": true, "dataschema": true, "subject": true, "time": true,
}

// all returns the attributes that are there, by their names, but for datacontenttype.
func (a Attributes) all() map[string]string {
	named := maps.Clone(a.Extensions)
	if named == nil {
		named = map[string]string{}
	}
	named["specversion"] = SpecVersion
	for name, value := range map[string]string{"id": a.ID, "source": a.Source, "type": a.Type, "dataschema": a.DataSchema, "subject": a.Subject} {
		if value != "" {
			named[name] = value
		}
	}
	if !a.Time.IsZero() {
		named["time"] = a.Time.UTC().Format(time.RFC3339Nano)
	}
	return named
}

// over returns a where it says something, and else b.
func (a Attributes) over(b Attributes) Attributes {
	for _, p := range [...]struct{ mine, other *string }{
		{&a.ID, &b.ID}, {&a.Source, &b.Source}, {&a.Type, &b.Type}, {&a.DataSchema, &b.DataSchema}, {&a.Subject, &b.Subject},
	} {
		if *p.mine == "" {
			*p.mine = *p.other
		}
	}
	if a.Time.IsZero() {
		a.Time = b.Time
	}
	extensions := maps.Clone(b.Extensions)
	if extensions == nil {
		extensions = map[string]string{}
	}
	maps.Copy(extensions, a.Extensions)
	a.Extensions = extensions
	return a
}

// clip shortens what an error quotes.
func clip(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.ToValidUTF8(s, "")
}
