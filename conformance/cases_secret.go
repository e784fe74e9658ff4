package conformance

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
)

var secretCases = []Case{
	{
		ID:    "secret/never-shown",
		Rule:  "The password shows in no error, and not when a driver or what it returns is printed, whatever the verb.",
		Hooks: WithSecret,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			inner := d.Unwrap() // for what is returned to be the adapter's own
			t.discreet("the driver", inner)
			t.discreet("its features", inner.Features())
			sub, err := inner.Subscribe(t.soon(), s)
			t.must(err, "subscribing")
			t.discreet("a subscription's address", sub.Address())

			ended, cancel := context.WithCancel(t.ctx)
			cancel()
			long := queue(strings.Repeat("n", adapters.MaxNameBytes+1), 1)
			zero := s
			zero.Prefetch = 0
			var errs []error
			note := func(err error) { errs = append(errs, err) }
			try := func() {
				for _, ctx := range []context.Context{t.soon(), ended} {
					for _, source := range []adapters.Source{s, long, zero, queue("amq.direct", 1), queue("", 1)} {
						note(inner.Declare(ctx, source))
						other, err := inner.Subscribe(ctx, source)
						if note(err); err == nil {
							note(other.Stop())
						}
						note(inner.Publish(ctx, to(source), text(strings.Repeat("x", adapters.MaxNameBytes+1))...))
					}
					short, cancel := context.WithTimeout(ctx, silence)
					_, err := sub.Receive(short)
					cancel()
					note(err)
				}
			}
			try()
			for _, source := range t.wrong(s) {
				note(inner.Declare(t.soon(), source))
				_, err := inner.Subscribe(t.soon(), source)
				note(err)
			}
			note(inner.Close(t.soon()))
			try()
			for _, err := range errs {
				t.discreetError(err)
			}
			if errors.Join(errs...) == nil {
				t.errorf("nothing failed that should have")
			}
			t.discreet("the driver after Close", inner)
			t.discreet("a subscription after Close", sub)
		},
	},
	{
		ID:    "secret/lost-session",
		Rule:  "The password shows in no error about a lost session.",
		Hooks: WithSecret | WithCut,
		run: func(t *trial) {
			t.judged = false // what becomes of the messages is another rule
			d, s, sub := t.subscribed(1)
			t.publish(d, to(s), "m")
			held := t.receive(sub)
			t.must(t.h.Cut(t.soon()), "cutting the sessions")
			ctx := held.Message.Context()
			select { // that it ends is another rule
			case <-ctx.Done():
			case <-time.After(long):
			}
			t.discreetError(context.Cause(ctx))
			t.discreetError(held.Settle(t.soon(), adapters.Ack))
			t.discreetError(d.Publish(t.soon(), to(s), text("after")...))
		},
	},
}

// wrong returns sources that are not what the broker has, as far as the claims
// reach.
func (t *trial) wrong(s adapters.Source) (list []adapters.Source) {
	other, missing := s, queue(t.name("missing"), 1)
	other.Queue.MaxLength = 7
	missing.Passive = true
	for _, source := range []adapters.Source{other, missing, private(adapters.Fanout, s.Name), private(adapters.Direct, s.Name, "key")} {
		if t.claims.Ability.Has(source.Needs()) {
			list = append(list, source)
		}
	}
	return list
}

// discreet checks that the password does not show when v is printed.
func (t *trial) discreet(what string, v any) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		t.conceals(fmt.Sprintf("%s, printed with %s", what, verb), fmt.Sprintf(verb, v))
	}
}

// discreetError is discreet of an error and all that it wraps.
func (t *trial) discreetError(err error) {
	if err == nil {
		return
	}
	t.conceals("an error", err.Error())
	for _, verb := range []string{"%+v", "%#v"} {
		t.conceals("an error, printed with "+verb, fmt.Sprintf(verb, err))
	}
	switch wrapping := err.(type) { //nolint:errorlint // all that is wrapped is looked at
	case interface{ Unwrap() error }:
		t.discreetError(wrapping.Unwrap())
	case interface{ Unwrap() []error }:
		for _, wrapped := range wrapping.Unwrap() {
			t.discreetError(wrapped)
		}
	}
}

// conceals checks that the password is not in a text, as it is or encoded.
func (t *trial) conceals(what, text string) {
	secret := t.h.Secret
	for _, form := range []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), fmt.Sprintf("%x", secret), fmt.Sprint([]byte(secret)),
		base64.StdEncoding.EncodeToString([]byte(secret)), strings.Trim(fmt.Sprintf("%q", secret), `"`),
	} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
			t.errorf("the password shows in %s", what)
			return
		}
	}
}
