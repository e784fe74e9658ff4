package jetstream

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
)

// The server drops what this user may not publish, requests included, and answers nothing: it says
// so on the connection, with the subject.

var refusedPublish = regexp.MustCompile(`Permissions Violation for Publish to "(\S+)"`)

// refused is told what the server says of no request in particular.
func (d *Driver) refused(s *session, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	said := refusedPublish.FindStringSubmatch(err.Error())
	if said == nil {
		d.warn("jetstream: access refused", "error", err)
		return
	}
	d.warn("jetstream: a publish or request was refused", "error", err)
	subject, why := said[1], fmt.Errorf("jetstream: %w: %w", adapters.ErrAccess, err)
	s.fail(why, func(a answer) bool { return a.subject == subject })
	for _, sub := range d.all() {
		sub.refused(s, subject, why)
	}
}

// refused ends the subscription if it may not ask for messages.
func (s *subscription) refused(session *session, subject string, why error) {
	s.mu.Lock()
	mine := s.at != nil && s.at.session == session && nextSubject(s.at.queue) == subject
	s.mu.Unlock()
	if mine {
		s.finish(why)
	}
}

// refusable returns a ctx that ends, with a [refusal], when the server refuses a request to
// subject that is not the session's own.
func (s *session) refusable(ctx context.Context, subject string) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	n := s.last
	s.waiting[n] = answer{subject: subject, take: func(_ *nats.Msg, err error) {
		if errors.Is(err, adapters.ErrAccess) {
			cancel(err)
		}
	}}
	return ctx, func() {
		s.mu.Lock()
		delete(s.waiting, n)
		s.mu.Unlock()
		cancel(nil)
	}
}

// refusal returns why a ctx of refusable has ended, if the server has refused.
func refusal(ctx context.Context) error {
	if why := context.Cause(ctx); errors.Is(why, adapters.ErrAccess) {
		return why
	}
	return nil
}
