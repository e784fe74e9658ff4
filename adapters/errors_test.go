package adapters

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// clientError stands for a client library's own error type.
type clientError struct{ code int }

func (e *clientError) Error() string { return fmt.Sprint("client error ", e.code) }

func TestPublishErrorShowsItsCauses(t *testing.T) {
	var err error = &PublishError{Failed: []FailedMessage{
		{Index: 1, UUID: "u1", Err: fmt.Errorf("%w: no queue", ErrUnroutable)},
		{Index: 3, UUID: "u3", Err: fmt.Errorf("%w: %w", ErrUnconfirmed, context.Canceled)},
		{Index: 4, UUID: "u4", Err: fmt.Errorf("%w: %w", ErrNacked, &clientError{code: 312})},
	}}
	err = fmt.Errorf("send: %w", err)

	for _, target := range []error{ErrUnroutable, ErrUnconfirmed, ErrNacked, context.Canceled} {
		if !errors.Is(err, target) {
			t.Errorf("%v is not found", target)
		}
	}
	for _, target := range []error{ErrTooLarge, ErrClosed, context.DeadlineExceeded} {
		if errors.Is(err, target) {
			t.Errorf("%v is found", target)
		}
	}
	var client *clientError
	if !errors.As(err, &client) || client.code != 312 {
		t.Errorf("the client's own error is not found: %v", client)
	}
	var publish *PublishError
	if !errors.As(err, &publish) || len(publish.Failed) != 3 {
		t.Errorf("the list of failures is not found: %v", publish)
	}
}

func TestPublishErrorText(t *testing.T) {
	one := &PublishError{Failed: []FailedMessage{{Index: 2, UUID: "u", Err: ErrTooLarge}}}
	if got, want := one.Error(), `message 2 ("u"): motif: too large`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	three := &PublishError{Failed: append(one.Failed, FailedMessage{Index: 5}, FailedMessage{Index: 6})}
	if got := three.Error(); !strings.HasSuffix(got, " (and 2 more failed)") {
		t.Errorf("got %s", got)
	}
	forged := &PublishError{Failed: []FailedMessage{{UUID: "u\nmotif: all is well" + strings.Repeat("x", 1000), Err: ErrNacked}}}
	if got := forged.Error(); strings.Contains(got, "\n") || len(got) > 200 {
		t.Errorf("got %q", got)
	}
}

// TestSentinelsAreDistinct guards against an errors.Is that says yes to a
// neighbour.
func TestSentinelsAreDistinct(t *testing.T) {
	sentinels := []error{
		ErrClosed, ErrStopped, ErrInvalid, ErrUnsupported, ErrUnroutable, ErrNacked, ErrUnconfirmed, ErrTooLarge,
		ErrUnavailable, ErrMismatch, ErrNotFound, ErrEmpty, ErrStaleDelivery, ErrSessionLost,
	}
	texts := make(map[string]bool)
	for i, a := range sentinels {
		for j, b := range sentinels {
			if errors.Is(a, b) != (i == j) {
				t.Errorf("errors.Is(%v, %v) = %v", a, b, i != j)
			}
		}
		if texts[a.Error()] || !strings.HasPrefix(a.Error(), "motif: ") {
			t.Errorf("the text %q is taken, or does not say whose it is", a)
		}
		texts[a.Error()] = true
	}
	if errors.Is(&UnsupportedError{}, ErrInvalid) {
		t.Error("an UnsupportedError is ErrInvalid")
	}
}
