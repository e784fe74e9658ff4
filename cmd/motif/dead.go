package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
)

func deadCommands() []command {
	return []command{
		listCommand, showCommand, explainCommand, replayCommand, editCommand, dropCommand, exportCommand, importCommand,
	}
}

// letterFlags are the flags that pick letters.
type letterFlags struct {
	reason  string
	from    string
	older   time.Duration
	younger time.Duration
	headers repeated
	payload repeated
}

// repeated is a flag that may be given several times.
type repeated []string

func (r *repeated) String() string     { return strings.Join(*r, " ") }
func (r *repeated) Set(s string) error { *r = append(*r, s); return nil }

func (f *letterFlags) declare(flags *flag.FlagSet) {
	flags.StringVar(&f.reason, "reason", "", "only those whose reason matches the regular expression `RE`")
	flags.StringVar(&f.from, "from", "", "only those that died in `QUEUE`")
	flags.DurationVar(&f.older, "older", 0, "only those that are dead for at least `DURATION`, as 90s, 30m or 12h")
	flags.DurationVar(&f.younger, "younger", 0, "only those that are dead for less than `DURATION`")
	flags.Var(&f.headers, "header", "only those with the header `NAME=VALUE`, or NAME; may be repeated")
	flags.Var(&f.payload, "json-path", "only those in whose JSON payload `PATH=VALUE`, PATH!=VALUE, or PATH is there; may be repeated")
}

// filter returns what the flags and the refs of letters pick.
func (f *letterFlags) filter(refs []string) (deadletters.Filter, error) {
	filter := deadletters.Filter{Refs: refs, From: f.from, OlderThan: f.older, YoungerThan: f.younger}
	if f.reason != "" {
		re, err := regexp.Compile(f.reason)
		if err != nil {
			return filter, usagef("-reason: %v", err)
		}
		filter.Reason = re
	}
	if f.older < 0 || f.younger < 0 {
		return filter, usagef("-older and -younger take no negative durations")
	}
	for _, h := range f.headers {
		name, value, is := strings.Cut(h, "=")
		filter.Headers = append(filter.Headers, deadletters.HeaderMatch{Name: name, Value: value, Any: !is})
	}
	for _, p := range f.payload {
		match, err := deadletters.ParsePathMatch(p)
		if err != nil {
			return filter, usagef("-json-path: %v", err)
		}
		filter.Payload = append(filter.Payload, match)
	}
	return filter, nil
}

// any reports whether the flags pick less than all.
func (f *letterFlags) any() bool {
	return f.reason != "" || f.from != "" || f.older > 0 || f.younger > 0 || len(f.headers)+len(f.payload) > 0
}

// withQueue runs do on the queue of dead letters that the first argument names.
func (i *invocation) withQueue(ctx context.Context, do func(*deadletters.Queue) error) (err error) {
	d, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDriver(ctx, d)) }()
	err = do(deadletters.New(d, i.args[0]))
	return explainError(err)
}

// explainError adds what to do about an error, where that is known.
func explainError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, adapters.ErrAccess):
		return fmt.Errorf("the user of the URL lacks a right that this takes: %w", err)
	case errors.Is(err, adapters.ErrUnsupported):
		return fmt.Errorf("this broker cannot be asked for it as it is connected: %w", err)
	}
	return err
}

// noteLook says, where it is so, that a look changes something.
func (i *invocation) noteLook(q *deadletters.Queue) {
	if q.CountsLooks() {
		i.note("Note: RabbitMQ cannot show a message without delivering it: each of these now counts as returned once more.")
	}
}
