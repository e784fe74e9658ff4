package main

import (
	"context"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/motifmq/motif/adapters"
)

//go:embed webpage
var webFiles embed.FS

// handler answers the page. What it begins ends with ctx.
//
// A stranger's page that the user has open in the same browser is kept out three times: it does not
// know the key, its requests are refused by their Origin, and a name of its own that it turns to
// this address (DNS rebinding) is refused by the Host.
func (p *webPage) handler(ctx context.Context) http.Handler {
	files, err := fs.Sub(webFiles, "webpage")
	if err != nil {
		panic(err) // the folder is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", http.FileServerFS(files))
	for _, name := range []string{"app.js", "style.css", "icon.svg"} {
		mux.Handle("GET /"+name, http.FileServerFS(files))
	}
	mux.HandleFunc("GET /api/queues", p.withKey(p.showQueues))
	mux.HandleFunc("GET /api/dead", p.withKey(p.showDead))
	mux.HandleFunc("GET /api/runs", p.withKey(p.showRuns))
	for _, verb := range []string{webReplay, webDrop} {
		mux.HandleFunc("POST /api/"+verb, p.withKey(func(r *http.Request) (any, error) { return p.begin(ctx, r, verb) }))
	}
	mux.HandleFunc("POST /api/stop", p.withKey(p.stop))
	same := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range webHeaders {
			w.Header().Set(name, value)
		}
		if !p.isOurs(r.Host) {
			http.Error(w, "This page is reached by an IP address, localhost, or the name that -listen has.", http.StatusForbidden)
			return
		}
		same.ServeHTTP(w, r)
	})
}

// webHeaders are those of every response: nothing is run, loaded or framed but what is ours, and no
// script can make HTML of a string.
var webHeaders = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-store",
}

// isOurs reports whether the Host of a request is one that only we can have. The port is not looked
// at, which a tunnel may have changed.
func (p *webPage) isOurs(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost") || strings.EqualFold(host, p.host)
}

// withKey answers with what do returns, as JSON, to who shows the key.
func (p *webPage) withKey(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		var answer any
		err := errNoKey
		if subtle.ConstantTimeCompare([]byte(key), []byte(p.key)) == 1 {
			answer, err = do(r)
		}
		status := http.StatusOK
		if err != nil {
			status = webStatus(err)
			answer = struct {
				Error string `json:"error"`
			}{safe(explainError(err).Error(), 1000)}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer) // an error is that nobody listens any more
	}
}

var (
	errNoKey    = errors.New("the key is missing: open the address as motif web wrote it, with all that is behind the #")
	errReadOnly = errors.New("the page only looks: motif web -write lets it replay and drop")
	errBusy     = errors.New("busy")
	errMedia    = errors.New("the body is not application/json")
)

func webStatus(err error) int {
	var usage *usageError
	switch {
	case errors.Is(err, errNoKey):
		return http.StatusUnauthorized
	case errors.Is(err, errReadOnly), errors.Is(err, adapters.ErrAccess):
		return http.StatusForbidden
	case errors.Is(err, errBusy):
		return http.StatusConflict
	case errors.Is(err, errMedia):
		return http.StatusUnsupportedMediaType
	case errors.As(err, &usage), errors.Is(err, adapters.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, adapters.ErrNotFound):
		return http.StatusNotFound
	}
	return http.StatusBadGateway // what the broker said
}

const webMaxBody = 256 << 10

// readBody reads a request's body, which is one JSON object, into v.
func readBody(r *http.Request, v any) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return errMedia
	}
	d := json.NewDecoder(io.LimitReader(r.Body, webMaxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return usagef("the body is not as it should be: %v", err)
	}
	return nil
}

// lockedWriter is a writer that several goroutines share.
type lockedWriter struct {
	mu sync.Locker
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
