package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
)

// sendFlags are the flags of commands that send letters.
type sendFlags struct {
	letterFlags
	to      string
	rate    float64
	limit   int
	dryRun  bool
	journal string
	all     bool
}

var replayCommand = command{
	name: "dead replay", args: "QUEUE [ID...]", short: "send dead letters back to where they died, or elsewhere",
	long: `
Sends the letters of these IDs, or all that the flags pick, to the queue that each died in, with their
id, headers and properties, to be tried as if for the first time. A letter leaves QUEUE only when the
broker has confirmed it there. One that dies again during the run is not sent a second time.

Ctrl-C ends a run in order. It goes on after a restart of the broker. What may be double is listed at
the end; if the process is killed, by the next run, which reads its journal.`,
	setup: func(flags *flag.FlagSet) action {
		var f sendFlags
		f.declare(flags)
		flags.StringVar(&f.to, "to", "", "send them to `QUEUE` rather than to where they died")
		flags.Float64Var(&f.rate, "rate", 0, "send at most `N` letters a second")
		flags.IntVar(&f.limit, "limit", 0, "send at most `N` letters")
		flags.BoolVar(&f.dryRun, "dry-run", false, "only say what would be sent, and where")
		flags.StringVar(&f.journal, "journal", "", "`FILE` in which the run is noted (in the user's cache without it; - = none)")
		return func(ctx context.Context, i *invocation) error { return i.replay(ctx, &f) }
	},
}

func (i *invocation) replay(ctx context.Context, f *sendFlags) error {
	filter, err := f.filter(i.args[1:])
	if err != nil {
		return err
	}
	if f.rate < 0 || f.limit < 0 {
		return usagef("-rate and -limit take no negative numbers")
	}
	o := deadletters.ReplayOptions{Filter: filter, To: f.to, Limit: f.limit}
	if f.rate > 0 {
		o.Every = time.Duration(float64(time.Second) / f.rate)
	}
	if f.dryRun {
		return i.withQueue(ctx, func(q *deadletters.Queue) error { return i.dryRun(ctx, q, o) })
	}
	report, err := i.sendBack(ctx, o, f.journal)
	return errors.Join(i.writeReport(report, "sent"), err, failures(report), i.notFound(report))
}

// sendBack replays the queue that the first argument names, and notes it in the journal at path. It
// has a connection of its own, because the journal ends when all acknowledgements are sent.
func (i *invocation) sendBack(ctx context.Context, o deadletters.ReplayOptions, path string) (report deadletters.Report, err error) {
	if o.Journal, err = i.openJournal(path); err != nil {
		return report, err
	}
	var replayed error
	err = i.withQueue(ctx, func(q *deadletters.Queue) error {
		report, replayed = q.Replay(ctx, o)
		return nil
	})
	if o.Journal != nil {
		err = errors.Join(err, o.Journal.Close(err == nil))
	}
	return report, errors.Join(explainError(replayed), err)
}

// openJournal opens the journal of a replay, and says what it tells of an earlier run.
func (i *invocation) openJournal(path string) (*deadletters.Journal, error) {
	if path == "-" {
		return nil, nil
	}
	if path == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			i.note("Note: no journal, for there is no folder for it (%v): if this run is killed, nobody knows what it sent.", err)
			return nil, nil
		}
		dir = filepath.Join(dir, "motif")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		path = filepath.Join(dir, "replay-"+journalName(i.url, i.args[0]))
	}
	j, err := deadletters.OpenJournal(path)
	if err != nil {
		return nil, err
	}
	if confirmed, doubtful := j.Left(); confirmed+doubtful > 0 {
		i.note("An earlier replay of this queue did not end in order. What it is known to have sent is not sent again; %d letters may have been sent.", doubtful)
	}
	return j, nil
}

// journalName names the journal for a queue of a broker. No credential goes into it.
func journalName(rawURL, queue string) string {
	where := ""
	if u, err := url.Parse(rawURL); err == nil {
		where = u.Scheme + "://" + u.Host + u.Opaque + u.Path
	}
	d := sha256.Sum256([]byte(where + "\n" + queue))
	return hex.EncodeToString(d[:8])
}

// dryRun says what a replay would do.
func (i *invocation) dryRun(ctx context.Context, q *deadletters.Queue, o deadletters.ReplayOptions) error {
	look, err := q.List(ctx, o.Filter, adapters.MaxBrowse)
	if err != nil {
		return err
	}
	missing := i.missing(look)
	if o.Limit > 0 && len(look.Letters) > o.Limit {
		look.Letters = look.Letters[:o.Limit]
	}
	t := table{}
	t.row("ID", "TO")
	for n := range look.Letters {
		l := &look.Letters[n]
		to := o.To
		if to == "" {
			to = l.From()
		}
		if i.json {
			if err := i.object(map[string]any{"ref": l.Ref(), "to": to}); err != nil {
				return err
			}
			continue
		}
		if to == "" {
			to = "? it does not say where it died: -to sends it somewhere"
		}
		t.row(safe(l.Ref(), 40), safe(to, 80))
	}
	if !i.json && len(look.Letters) > 0 {
		if err := i.write(&t); err != nil {
			return err
		}
	}
	if !i.json {
		i.note("A dry run: %d letters would be sent.", len(look.Letters))
	}
	if look.Unseen > 0 {
		i.note("Note: %d letters behind them were not looked at.", look.Unseen)
	}
	if look.Seen > 0 {
		i.noteLook(q)
	}
	return missing
}

// reportJSON is a report as -json writes it.
type reportJSON struct {
	Run        string        `json:"run"`
	Sent       int           `json:"sent"`
	Removed    int           `json:"removed"`
	Recognized int           `json:"recognized"`
	CameBack   int           `json:"came_back"`
	Kept       int           `json:"kept"`
	Missing    []string      `json:"missing,omitempty"`
	Failed     []failureJSON `json:"failed"`
	Doubtful   []doubtJSON   `json:"doubtful"`
}

type failureJSON struct {
	Ref   string `json:"ref"`
	To    string `json:"to"`
	Error string `json:"error"`
}

type doubtJSON struct {
	Ref string          `json:"ref"`
	To  string          `json:"to"`
	Why deadletters.Why `json:"why"`
}

func newReportJSON(r deadletters.Report) reportJSON {
	out := reportJSON{
		Run: r.Run, Sent: r.Sent, Removed: r.Removed, Recognized: r.Recognized, CameBack: r.CameBack, Kept: r.Kept, Missing: r.Missing,
		Failed: []failureJSON{}, Doubtful: []doubtJSON{},
	}
	for _, f := range r.Failed {
		out.Failed = append(out.Failed, failureJSON{f.Ref, f.To, f.Err.Error()})
	}
	for _, d := range r.Doubtful {
		out.Doubtful = append(out.Doubtful, doubtJSON(d))
	}
	return out
}

// writeReport says what a run did, which verb names.
func (i *invocation) writeReport(r deadletters.Report, verb string) error {
	if i.json {
		return i.object(newReportJSON(r))
	}
	fmt.Fprintf(i.stdout, "%d letters %s, %d left in their places.\n", r.Sent+r.Removed, verb, r.Kept)
	if r.Recognized > 0 {
		fmt.Fprintf(i.stdout, "%d came again though they had been sent, and were taken away.\n", r.Recognized)
	}
	if r.CameBack > 0 {
		fmt.Fprintf(i.stdout, "%d of those left had been sent in this run (%s) and died again.\n", r.CameBack, r.Run)
	}
	for n, f := range r.Failed {
		if n == 20 {
			fmt.Fprintf(i.stdout, "... and %d more failed; -json lists all.\n", len(r.Failed)-n)
			break
		}
		fmt.Fprintf(i.stdout, "%s\n", i.colour(colourBad, safe("failed: "+f.Error(), 0)))
	}
	for _, d := range r.Doubtful {
		fmt.Fprintf(i.stdout, "%s\n", i.colour(colourBad, safe(fmt.Sprintf("may be double: letter %s to queue %q: %s", d.Ref, d.To, d.Why), 0)))
	}
	return nil
}

// failures returns an error if a letter could not be sent.
func failures(r deadletters.Report) error {
	if len(r.Failed) == 0 {
		return nil
	}
	return explainError(fmt.Errorf("%d letters could not be sent, and are where they were: %w", len(r.Failed), r.Failed[0].Err))
}

// notFound returns an error if there were no letters of some of the IDs.
func (i *invocation) notFound(r deadletters.Report) error {
	if len(r.Missing) == 0 {
		return nil
	}
	return fmt.Errorf("%w: no letter %s in queue %q", adapters.ErrNotFound, safe(strings.Join(r.Missing, ", "), 300), i.args[0])
}

var dropCommand = command{
	name: "dead drop", args: "QUEUE [ID...]", short: "delete dead letters for good",
	long: `
Deletes the letters of these IDs, or those that the flags pick, or with -all every one. Nothing brings
them back: motif dead export writes them to a file before.`,
	setup: func(flags *flag.FlagSet) action {
		var f sendFlags
		f.declare(flags)
		flags.IntVar(&f.limit, "limit", 0, "delete at most `N` letters")
		flags.BoolVar(&f.all, "all", false, "delete every letter")
		flags.BoolVar(&f.dryRun, "dry-run", false, "only list what would be deleted")
		return func(ctx context.Context, i *invocation) error { return i.drop(ctx, &f) }
	},
}

func (i *invocation) drop(ctx context.Context, f *sendFlags) error {
	filter, err := f.filter(i.args[1:])
	switch {
	case err != nil:
		return err
	case f.limit < 0:
		return usagef("-limit takes no negative number")
	case len(i.args) == 1 && !f.any() && !f.all:
		return usagef("which letters? Name their IDs, pick them with flags, or say -all")
	}
	var report deadletters.Report
	err = i.withQueue(ctx, func(q *deadletters.Queue) error {
		if f.dryRun {
			look, err := q.List(ctx, filter, adapters.MaxBrowse)
			if err == nil {
				missing := i.missing(look)
				if f.limit > 0 && len(look.Letters) > f.limit {
					look.Letters = look.Letters[:f.limit]
				}
				err = errors.Join(i.writeLetters(look.Letters, time.Now()), missing)
				i.noteSeen(q, look)
			}
			return err
		}
		report, err = q.Drop(ctx, filter, f.limit)
		return err
	})
	if f.dryRun {
		return err
	}
	return errors.Join(i.writeReport(report, "deleted"), err, i.notFound(report))
}
