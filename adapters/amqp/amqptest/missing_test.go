package amqptest

import (
	"errors"
	"fmt"
	"testing"
)

func TestURL(t *testing.T) {
	const theirs = "amqp://broker.example"
	t.Setenv(urlVar, theirs)
	if u := URL(t); u != theirs {
		t.Errorf("%s", u)
	}
}

// A verdict takes a test's end, without ending one.
type verdict struct {
	testing.TB
	is string
}

func (v *verdict) Skip(...any) {
	if v.is == "" {
		v.is = "skipped"
	}
}

func (v *verdict) Fatal(...any) {
	if v.is == "" {
		v.is = "failed"
	}
}

func TestMissingBroker(t *testing.T) {
	missing := fmt.Errorf("%w: here", ErrMissing)
	for _, c := range []struct {
		policy string
		err    error
		want   string
	}{
		{"", missing, "failed"},
		{"require", missing, "failed"},
		{"skip", missing, "skipped"},
		{"", errors.New("broken"), "failed"},
		{"skip", errors.New("broken"), "failed"},
		{"", nil, ""},
	} {
		t.Setenv(policyVar, c.policy)
		v := verdict{TB: t}
		orSkip(&v, c.err)
		if v.is != c.want {
			t.Errorf("%s=%s, %v: %q, want %q", policyVar, c.policy, c.err, v.is, c.want)
		}
	}
}
