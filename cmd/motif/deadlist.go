package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
)

var listCommand = command{
	name: "dead list", args: "QUEUE", short: "list dead letters",
	long: `
Lists the dead letters in QUEUE, first the one that has been there for longest. QUEUE is the one that
holds them: those of orders are in orders.dead. They stay where they are. IDs are what other commands take; a letter without one has a tilde and a digest.`,
	setup: func(flags *flag.FlagSet) action {
		var f letterFlags
		f.declare(flags)
		limit := flags.Int("limit", adapters.MaxBrowse, "look at no more than the first `N` letters")
		return func(ctx context.Context, i *invocation) error { return i.list(ctx, &f, *limit) }
	},
}

func (i *invocation) list(ctx context.Context, f *letterFlags, limit int) error {
	filter, err := f.filter(nil)
	if err != nil {
		return err
	}
	return i.withQueue(ctx, func(q *deadletters.Queue) error {
		look, err := q.List(ctx, filter, limit)
		if err != nil {
			return err
		}
		now := time.Now()
		if i.json {
			for n := range look.Letters {
				if err := i.object(summary(&look.Letters[n], now)); err != nil {
					return err
				}
			}
		} else if err := i.writeLetters(look.Letters, now); err != nil {
			return err
		}
		i.noteSeen(q, look)
		return nil
	})
}

// noteSeen says what was not looked at, and what the look changed.
func (i *invocation) noteSeen(q *deadletters.Queue, look deadletters.Look) {
	if !i.json {
		i.note("%d of %d letters.", len(look.Letters), look.Seen+look.Unseen)
	}
	if look.Unseen > 0 {
		i.note("Note: %d letters behind them were not looked at.", look.Unseen)
	}
	if look.Seen > 0 {
		i.noteLook(q)
	}
	died := func(l deadletters.Letter) bool { return l.From() != "" }
	if name := i.args[0]; !strings.HasSuffix(name, ".dead") && !slices.ContainsFunc(look.Letters, died) {
		i.note("Note: the dead letters of a queue called %[1]s are in %[1]s.dead, unless it says otherwise.", safe(name, 80))
	}
}

func (i *invocation) writeLetters(letters []deadletters.Letter, now time.Time) error {
	if len(letters) == 0 {
		return nil
	}
	t := table{}
	t.row("ID", "AGE", "ATTEMPTS", "FROM", "BYTES", "REASON")
	for n := range letters {
		l := &letters[n]
		attempts := "-"
		if l.Attempts() > 0 {
			attempts = fmt.Sprint(l.Attempts())
		}
		t.row(safe(l.Ref(), 40), deadletters.Short(l.Age(now)), attempts, safe(l.From(), 40), len(l.Message.Payload), safe(l.Reason(), 80))
	}
	return i.write(&t)
}

// letterSummary is a letter as -json lists it.
type letterSummary struct {
	Ref      string     `json:"ref"`
	Queue    string     `json:"queue"`
	From     string     `json:"from,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	DiedAt   *time.Time `json:"died_at,omitempty"`
	Age      float64    `json:"age_seconds,omitempty"`
	Attempts int        `json:"attempts,omitempty"`
	Losses   int        `json:"losses,omitempty"`
	Bytes    int        `json:"bytes"`
	Type     string     `json:"content_type,omitempty"`
}

func summary(l *deadletters.Letter, now time.Time) letterSummary {
	s := letterSummary{
		Ref: l.Ref(), Queue: l.Queue, From: l.From(), Reason: l.Reason(), Attempts: l.Attempts(), Losses: l.Losses(),
		Bytes: len(l.Message.Payload), Type: l.ContentType, Age: max(0, l.Age(now).Seconds()),
	}
	if at := l.DiedAt(); !at.IsZero() {
		s.DiedAt = &at
	}
	return s
}

var showCommand = command{
	name: "dead show", args: "QUEUE [ID...]", short: "show dead letters with their headers and payload",
	long: `
Shows the letters of these IDs, or all that the flags pick. What a terminal would act on is shown as
an escape; motif dead export writes letters byte by byte.`,
	setup: func(flags *flag.FlagSet) action {
		var f letterFlags
		f.declare(flags)
		most := flags.Int("bytes", 4096, "show at most `N` bytes of each payload; 0 = all")
		return func(ctx context.Context, i *invocation) error {
			return i.eachLetter(ctx, &f, func(l *deadletters.Letter, now time.Time) error {
				if i.json {
					return i.object(deadletters.NewRecord(l))
				}
				return i.show(l, now, *most)
			})
		}
	},
}

// eachLetter calls do with the letters that the flags and arguments pick.
func (i *invocation) eachLetter(ctx context.Context, f *letterFlags, do func(*deadletters.Letter, time.Time) error) error {
	filter, err := f.filter(i.args[1:])
	if err != nil {
		return err
	}
	return i.withQueue(ctx, func(q *deadletters.Queue) error {
		look, err := q.List(ctx, filter, adapters.MaxBrowse)
		if err != nil {
			return err
		}
		now := time.Now()
		for n := range look.Letters {
			if n > 0 && !i.json {
				fmt.Fprintln(i.stdout)
			}
			if err := do(&look.Letters[n], now); err != nil {
				return err
			}
		}
		i.noteSeen(q, look)
		return i.missing(look)
	})
}

// missing names the letters that were asked for and not found.
func (i *invocation) missing(look deadletters.Look) error {
	for _, ref := range i.args[1:] {
		one := deadletters.Filter{Refs: []string{ref}}
		if !slices.ContainsFunc(look.Letters, func(l deadletters.Letter) bool { return one.Match(&l, time.Time{}) }) {
			return fmt.Errorf("%w: letter %s among the first %d of queue %q", adapters.ErrNotFound, safe(ref, 64), look.Seen, i.args[0])
		}
	}
	return nil
}

func (i *invocation) show(l *deadletters.Letter, now time.Time, most int) error {
	fmt.Fprintln(i.stdout, i.colour(colourHead, safe(l.Ref(), 0)))
	for _, f := range fields(l, now) {
		if _, err := fmt.Fprintf(i.stdout, "  %s: %s\n", f[0], f[1]); err != nil {
			return err
		}
	}
	text, more, err := payload(l, most)
	if err != nil {
		i.note("Note: %v. It is shown as it is.", err)
	}
	cut := ""
	if more > 0 {
		cut = fmt.Sprintf("\n  … %d bytes more", more)
	}
	_, err = fmt.Fprintf(i.stdout, "  payload, %d bytes:\n%s%s\n", len(l.Message.Payload), text, cut)
	return err
}

// fields returns the names and values of what a letter says of itself, fit to be shown.
func fields(l *deadletters.Letter, now time.Time) (all [][2]string) {
	field := func(name, value string) {
		if value != "" {
			all = append(all, [2]string{name, safe(value, 300)})
		}
	}
	field("from", l.From())
	field("reason", l.Reason())
	if at := l.DiedAt(); !at.IsZero() {
		field("died", at.UTC().Format(time.RFC3339)+", "+deadletters.Short(l.Age(now))+" ago")
	}
	if !l.Timestamp.IsZero() {
		field("published", l.Timestamp.UTC().Format(time.RFC3339))
	}
	field("key", l.Key)
	field("content type", l.ContentType)
	field("content encoding", l.ContentEncoding)
	field("type", l.Type)
	field("app id", l.AppID)
	field("correlation id", l.CorrelationID)
	field("reply to", l.ReplyTo)
	if l.Priority > 0 {
		field("priority", fmt.Sprint(l.Priority))
	}
	if l.TTL > 0 {
		field("ttl", l.TTL.String())
	}
	for _, name := range slices.Sorted(maps.Keys(l.Message.Metadata)) {
		all = append(all, [2]string{"header " + safe(name, 60), safe(l.Message.Metadata[name], 300)})
	}
	return all
}

// payload returns the first most bytes of a letter's payload, or all if that is 0, fit to be shown,
// and how many are behind them. With an error, which says why it does not unpack, it is as it came.
func payload(l *deadletters.Letter, most int) (shown string, more int, err error) {
	text, err := l.Text()
	if err != nil {
		text = l.Message.Payload
	}
	if most > 0 && len(text) > most {
		more = len(text) - most
		text = text[:most]
	}
	return deadletters.PrintableLines(string(text), 0), more, err
}

var explainCommand = command{
	name: "dead explain", args: "QUEUE [ID...]", short: "say what happened to dead letters",
	long: `
Says in sentences where, when and why each letter died, from its own headers and those of the broker,
and where a replay would send it.`,
	setup: func(flags *flag.FlagSet) action {
		var f letterFlags
		f.declare(flags)
		return func(ctx context.Context, i *invocation) error {
			return i.eachLetter(ctx, &f, func(l *deadletters.Letter, now time.Time) error {
				sentences := l.Explain(now)
				if i.json {
					return i.object(struct {
						letterSummary
						Sentences []string `json:"sentences"`
					}{summary(l, now), sentences})
				}
				fmt.Fprintln(i.stdout, i.colour(colourHead, safe(l.Ref(), 0)))
				for _, s := range sentences {
					if _, err := fmt.Fprintln(i.stdout, "  "+safe(s, 0)); err != nil {
						return err
					}
				}
				return nil
			})
		}
	},
}
