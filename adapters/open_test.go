package adapters

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
)

// TestOpenShowsNoCredential: what a broken URL holds is a secret, for nobody
// knows which part of it was meant as the password.
func TestOpenShowsNoCredential(t *testing.T) {
	const user, password = "carol", "s3cr3t"
	for name, rawURL := range map[string]string{
		"bad escape":        "amqp://carol:s3cr3t%et@host/",
		"bad port":          "amqp://carol:s3cr3t@host:port/",
		"password as port":  "amqp://carol:s3cr3t/x@host/",
		"control character": "amqp://carol:s3cr3t\n@host/",
		"bad host":          "amqp://carol:s3cr3t@[host/",
		"unknown scheme":    "nosuch://carol:s3cr3t@host/",
		"scheme forgotten":  "carol:s3cr3t@host:5672/",
		"only slashes":      "//carol:s3cr3t@host/",
		"colon forgotten":   "amqp//carol:s3cr3t@host/",
		"bad scheme":        "1amqp://carol:s3cr3t@host/",
		"password first":    "s3cr3t:carol@host/",
	} {
		_, err := Open(t.Context(), rawURL)
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
			continue
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if text := e.Error(); strings.Contains(text, user) || strings.Contains(text, password) {
				t.Errorf("%s: the error shows a credential: %s", name, text)
			}
		}
		var parse *url.Error
		if errors.As(err, &parse) {
			t.Errorf("%s: the error carries the URL in a %T", name, parse)
		}
	}
}

func TestOpenByScheme(t *testing.T) {
	refused := errors.New("refused")
	unregister(t, "test-open")
	Register("test-open", func(_ context.Context, u *url.URL) (Driver, error) {
		if u.Host != "host" || u.User.Username() != "u" {
			t.Errorf("opened with %s", u.Redacted())
		}
		return nil, refused
	})
	for _, rawURL := range []string{"test-open://u:p@host/", "TEST-OPEN://u:p@host/"} {
		if _, err := Open(t.Context(), rawURL); !errors.Is(err, refused) {
			t.Errorf("%s: %v, want what the opener said", rawURL, err)
		}
	}
	_, err := Open(t.Context(), "nosuch://host/")
	if err == nil || !strings.Contains(err.Error(), `"nosuch"`) || !strings.Contains(err.Error(), "test-open") {
		t.Errorf("%v: want the scheme and those that are known", err)
	}
}

func TestRegisterPanics(t *testing.T) {
	nothing := func(context.Context, *url.URL) (Driver, error) { return nil, ErrUnavailable }
	unregister(t, "test-register")
	Register("test-register", nothing)
	for name, register := range map[string]func(){
		"taken": func() { Register("test-register", nothing) },
		"nil":   func() { Register("test-register-nil", nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			register()
		}()
	}
}

// unregister takes the scheme away again when the test ends.
func unregister(t *testing.T, scheme string) {
	t.Cleanup(func() {
		openersMu.Lock()
		defer openersMu.Unlock()
		delete(openers, scheme)
	})
}
