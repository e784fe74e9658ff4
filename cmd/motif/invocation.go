package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/motifmq/motif/adapters"
)

// An invocation is one run of a command: what it was called with, and where its output goes.
type invocation struct {
	args   []string // without flags
	url    string   // of the broker, or ""; never to be shown, for it may hold a password
	json   bool
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// globalFlags declares the flags that every command has.
func (i *invocation) globalFlags(flags *flag.FlagSet) {
	flags.StringVar(&i.url, "url", "", "`URL` of the broker; else MOTIF_URL or AMQP_URL of the environment, where other users do not see it")
	flags.BoolVar(&i.json, "json", false, "write JSON, an object a line, for programs")
}

const closeTimeout = 10 * time.Second

// open connects to the broker. The caller calls closeDriver with what it returns.
func (i *invocation) open(ctx context.Context) (adapters.Driver, error) {
	if i.url == "" {
		return nil, usagef("no broker: give its URL with -url, or in MOTIF_URL or AMQP_URL")
	}
	d, err := adapters.Open(ctx, i.url)
	if err != nil {
		return nil, err
	}
	if l, ok := d.(adapters.LogSetter); ok {
		l.SetLogger(slog.New(slog.NewTextHandler(i.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	}
	return d, nil
}

// closeDriver gives back what d holds, also if the command was interrupted.
func closeDriver(ctx context.Context, d adapters.Driver) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return d.Close(ctx)
}

// inspector returns d as one, or that the adapter cannot.
func inspector(d adapters.Driver, need adapters.Ability) (adapters.Inspector, error) {
	f := d.Features()
	if err := f.Require(need); err != nil {
		return nil, err
	}
	ops, ok := d.(adapters.Inspector)
	if !ok {
		return nil, &adapters.UnsupportedError{Adapter: f.Adapter, Missing: need}
	}
	return ops, nil
}

// input is standard input, of which a Read ends with ctx. It is for one caller: what was read ahead
// is lost to others.
func (i *invocation) input(ctx context.Context) io.Reader {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
	go func() { // until the process ends, if nothing comes
		_, err := io.Copy(w, i.stdin)
		_ = w.CloseWithError(err)
	}()
	return r
}

// object writes v as one line of JSON.
func (i *invocation) object(v any) error {
	e := json.NewEncoder(i.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// complain writes an error, as a sentence.
func (i *invocation) complain(err error) { fmt.Fprintf(i.stderr, "motif: %s\n", err) }

// note writes a line for people, beside what the command answers.
func (i *invocation) note(format string, args ...any) { fmt.Fprintf(i.stderr, format+"\n", args...) }
