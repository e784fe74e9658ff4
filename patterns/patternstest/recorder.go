package patternstest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// Recorder keeps what a bus of [NewBus] publishes, in the order in which it is published. Its
// methods may be called at any time, and concurrently.
type Recorder struct {
	bus *patterns.Bus

	mu  sync.Mutex
	all []*Recorded
}

// Recorded is a message that a bus published, or tried to.
type Recorded struct {
	Cause   patterns.PublishCause // who published it, and why
	To      adapters.Endpoint
	Key     string // routing key, of Routed and Topic
	ID      string
	Attempt int           // of a CauseRetry: the attempt that it is sent for
	Delay   time.Duration // how long it is to wait at the broker
	Headers map[string]string

	ContentType     string
	ContentEncoding string // how Payload is compressed, or ""
	Payload         []byte // as it travels

	// Done reports whether the outcome is known, which is Err: nil if the broker has the message.
	Done bool
	Err  error
}

// publish is a [patterns.PublishHook].
func (r *Recorder) publish(_ context.Context, p *patterns.Publishing) func(error) {
	begun := make([]*Recorded, p.Len())
	contentType, contentEncoding := p.Content()
	for i := range begun {
		begun[i] = &Recorded{
			Cause: p.Cause, To: p.To, Key: p.Key, ID: p.ID(i), Attempt: p.Attempt, Delay: p.Delay, Headers: p.Headers(i),
			ContentType: contentType, ContentEncoding: contentEncoding, Payload: slices.Clone(p.Payload(i)),
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, begun...)
	return func(err error) { r.done(begun, err) }
}

// done notes the outcome of a publish of several messages.
func (r *Recorder) done(begun []*Recorded, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range begun {
		m.Done, m.Err = true, err
	}
	if failed, ok := errors.AsType[*adapters.PublishError](err); ok {
		for _, m := range begun {
			m.Err = nil
		}
		for _, f := range failed.Failed {
			begun[f.Index].Err = f.Err
		}
	}
}

// A Filter selects among what was recorded.
type Filter func(Recorded) bool

// To selects what was published to a queue, exchange or function of that name.
func To(name string) Filter { return func(m Recorded) bool { return m.To.Name == name } }

// Cause selects what was published for one of these reasons.
func Cause(causes ...patterns.PublishCause) Filter {
	return func(m Recorded) bool { return slices.Contains(causes, m.Cause) }
}

// Key selects what was published with a routing key that a Topic's pattern matches: "eu.*".
func Key(pattern string) Filter {
	return func(m Recorded) bool { return adapters.MatchTopic(pattern, m.Key) }
}

// Header selects what has a header with that value.
func Header(name, value string) Filter {
	return func(m Recorded) bool {
		got, ok := m.Headers[name]
		return ok && got == value
	}
}

// Messages returns what was recorded so far and passes all filters, in the order in which it was
// published: what the program published and what the library did for it, failures included.
func (r *Recorder) Messages(filters ...Filter) []Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Recorded
	for _, m := range r.all {
		if !slices.ContainsFunc(filters, func(f Filter) bool { return !f(*m) }) {
			copied := *m
			copied.Headers = maps.Clone(m.Headers)
			found = append(found, copied)
		}
	}
	return found
}

// Reset forgets what was recorded so far.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = nil
}

// Published returns the values that the program itself published to a queue, exchange or function
// of that name, and that the broker has, in the order in which they were published. They are
// decoded from what travels, as a subscriber would decode it, with the codecs of the bus; the test
// ends if one cannot be. Retries, dead letters and replies, which the library publishes, are not
// among them: see [Recorder.Messages].
func Published[T any](t testing.TB, r *Recorder, name string, filters ...Filter) []T {
	t.Helper()
	filters = append([]Filter{To(name), Cause(patterns.CausePublish, patterns.CauseCall)}, filters...)
	values := []T{}
	for _, m := range r.Messages(filters...) {
		if !m.Done || m.Err != nil {
			continue
		}
		var v T
		if err := r.bus.Decode(m.ContentType, m.ContentEncoding, m.Payload, &v); err != nil {
			t.Fatalf("message %q that was published to %s is no %T: %v", m.ID, m.To, v, err)
		}
		values = append(values, v)
	}
	return values
}

// Expect fails the test unless what [Published] returns is want, in that order. It shows where the
// two differ, and what else was published.
func Expect[T any](t testing.TB, r *Recorder, name string, want ...T) {
	t.Helper()
	got := Published[T](t, r, name)
	if d := diff(want, got); d != "" {
		t.Errorf("published to %q (- is missing, + is too much):\n%s%s", name, d, r.summary(name))
	}
}

// summary says what was published elsewhere or failed, for who wonders where a message is.
func (r *Recorder) summary(name string) string {
	var lines []string
	for _, m := range r.Messages() {
		switch {
		case m.Err != nil:
			lines = append(lines, fmt.Sprintf("  %s of message %q to %s failed: %v", m.Cause, m.ID, m.To, m.Err))
		case !m.Done:
			lines = append(lines, fmt.Sprintf("  %s of message %q to %s is not confirmed yet", m.Cause, m.ID, m.To))
		case m.To.Name != name || m.Cause != patterns.CausePublish && m.Cause != patterns.CauseCall:
			lines = append(lines, fmt.Sprintf("  %s of message %q to %s", m.Cause, m.ID, m.To))
		}
	}
	if lines == nil {
		return ""
	}
	const most = 20
	if more := len(lines) - most; more > 0 {
		lines = append(lines[:most], fmt.Sprintf("  and %d more", more))
	}
	return "beside that:\n" + strings.Join(lines, "\n") + "\n"
}
