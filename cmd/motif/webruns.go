package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
)

// What the page may begin.
const (
	webReplay = "replay"
	webDrop   = "drop"
)

const (
	webMaxBusy   = 4   // looks and runs at a time, each of another queue
	webMaxRuns   = 20  // runs that are remembered
	webMaxListed = 100 // failures and doubts of each that are shown; the terminal has them all
	webMaxNotes  = 4096
	webMinRate   = 1e-6 // letters a second
)

// webRuns is what the page began: one run or look at a time for each queue.
type webRuns struct {
	mu     sync.Mutex
	busy   map[string]string // what is under way, by queue
	last   []*webRun         // newest first
	count  int
	totals webTotals
	group  sync.WaitGroup
}

// webTotals counts what became of letters, in all runs that have ended.
type webTotals struct {
	Sent       int `json:"sent"`
	Removed    int `json:"removed"`
	Recognized int `json:"recognized"`
	CameBack   int `json:"came_back"`
	Failed     int `json:"failed"`
	Doubtful   int `json:"doubtful"`
}

// webRun is one replay or drop.
type webRun struct {
	ID    int       `json:"id"`
	Verb  string    `json:"verb"`
	Queue string    `json:"queue"`
	Label string    `json:"label"` // its name, fit to be shown, as all other texts here
	Began time.Time `json:"began"`
	Ended bool      `json:"ended"`

	webTotals
	Failures []string `json:"failures"`
	Doubts   []string `json:"doubts"`
	Error    string   `json:"error"`
	Notes    string   `json:"notes"`

	cancel context.CancelFunc
}

// hold has a queue looked at or changed by one at a time, until done is called.
func (r *webRuns) hold(queue string) (done func(), err error) {
	return r.holdFor(queue, "a look at it")
}

func (r *webRuns) holdFor(queue, what string) (done func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if is, ok := r.busy[queue]; ok {
		return nil, fmt.Errorf("queue %q is %w: %s is under way", safe(queue, 80), errBusy, is)
	}
	if len(r.busy) == webMaxBusy {
		return nil, fmt.Errorf("the page is %w with %d other queues", errBusy, len(r.busy))
	}
	if r.busy == nil {
		r.busy = map[string]string{}
	}
	r.busy[queue] = what
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.busy, queue)
	}, nil
}

// wait waits until all runs have ended.
func (r *webRuns) wait() { r.group.Wait() }

// webOrder is what the page asks for, once its user has confirmed it.
type webOrder struct {
	Queue   string   `json:"queue"`
	Refs    []string `json:"refs"` // digests; or else
	All     bool     `json:"all"`  // all that the filter picks
	Reason  string   `json:"reason"`
	From    string   `json:"from"`
	Older   string   `json:"older"`
	Younger string   `json:"younger"`
	Header  []string `json:"header"`
	Path    []string `json:"path"`
	Limit   int      `json:"limit"` // how many letters the user has seen counted
	To      string   `json:"to"`
	Rate    float64  `json:"rate"`
}

// options checks an order.
func (o *webOrder) options() (deadletters.ReplayOptions, error) {
	f, err := newWebFilter(o.Reason, o.From, o.Older, o.Younger, o.Header, o.Path)
	if err != nil {
		return deadletters.ReplayOptions{}, err
	}
	filter, err := f.filter(o.Refs)
	switch {
	case err != nil:
		return deadletters.ReplayOptions{}, err
	case o.All == (len(o.Refs) > 0):
		return deadletters.ReplayOptions{}, usagef("which letters? Name them, or say that it is all")
	case o.Limit <= 0:
		return deadletters.ReplayOptions{}, usagef("how many letters? The limit is missing")
	case o.Rate < 0 || o.Rate > 0 && o.Rate < webMinRate:
		return deadletters.ReplayOptions{}, usagef("a rate of %g letters a second is none", o.Rate)
	case o.To == o.Queue:
		return deadletters.ReplayOptions{}, usagef("queue %q cannot be replayed into itself", o.Queue)
	}
	options := deadletters.ReplayOptions{Filter: filter, Limit: o.Limit, To: o.To}
	if o.Rate > 0 {
		options.Every = time.Duration(float64(time.Second) / o.Rate)
	}
	return options, nil
}

// begin begins a run, which goes on when the page is closed.
func (p *webPage) begin(ctx context.Context, r *http.Request, verb string) (any, error) {
	if !p.write {
		return nil, errReadOnly
	}
	var order webOrder
	if err := readBody(r, &order); err != nil {
		return nil, err
	}
	options, err := order.options()
	if err != nil {
		return nil, err
	}
	done, err := p.runs.holdFor(order.Queue, "a "+verb)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	run := p.runs.add(verb, order.Queue, cancel)
	options.Progress = func(*deadletters.Letter, string) {
		p.runs.mu.Lock()
		defer p.runs.mu.Unlock()
		run.Sent++
	}
	id := run.ID
	p.runs.group.Go(func() {
		defer done()
		defer cancel()
		p.run(ctx, run, options)
	})
	return struct {
		ID int `json:"id"`
	}{id}, nil
}

func (r *webRuns) add(verb, queue string, cancel context.CancelFunc) *webRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	run := &webRun{ID: r.count, Verb: verb, Queue: queue, Label: safe(queue, 80), Began: time.Now(), cancel: cancel}
	r.last = slices.Insert(r.last, 0, run)
	if n := len(r.last); n > webMaxRuns+webMaxBusy { // so that none is forgotten that is under way
		r.last = slices.DeleteFunc(r.last, func(of *webRun) bool { return of.Ended && of.ID <= r.count-webMaxRuns })
	}
	return run
}

// run does what was asked for, as the command does.
func (p *webPage) run(ctx context.Context, run *webRun, o deadletters.ReplayOptions) {
	notes := &webNotes{}
	i := &invocation{args: []string{run.Queue}, url: p.i.url, json: p.i.json, stdout: p.i.stdout, stderr: notes}
	var report deadletters.Report
	var err error
	verb := "sent"
	if run.Verb == webDrop {
		verb = "deleted"
		err = i.withQueue(ctx, func(q *deadletters.Queue) (err error) {
			report, err = q.Drop(ctx, o.Filter, o.Limit)
			return err
		})
	} else {
		report, err = i.sendBack(ctx, o, "")
	}
	if ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())) {
		err = errors.New("it was stopped")
	}
	p.runs.end(run, report, err, notes.String())
	_ = i.writeReport(report, verb) // who has no terminal any more has the page
}

func (r *webRuns) end(run *webRun, report deadletters.Report, err error, notes string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run.Ended, run.Notes = true, deadletters.PrintableLines(notes, 0)
	run.webTotals = webTotals{report.Sent, report.Removed, report.Recognized, report.CameBack, len(report.Failed), len(report.Doubtful)}
	if err != nil {
		run.Error = safe(explainError(err).Error(), webMaxText)
	}
	for n := range min(len(report.Failed), webMaxListed) {
		run.Failures = append(run.Failures, safe(report.Failed[n].Error(), webMaxText))
	}
	for n := range min(len(report.Doubtful), webMaxListed) {
		d := report.Doubtful[n]
		run.Doubts = append(run.Doubts, safe(fmt.Sprintf("letter %s to queue %q: %s", d.Ref, d.To, d.Why), webMaxText))
	}
	r.totals.add(run.webTotals)
}

func (t *webTotals) add(of webTotals) {
	t.Sent += of.Sent
	t.Removed += of.Removed
	t.Recognized += of.Recognized
	t.CameBack += of.CameBack
	t.Failed += of.Failed
	t.Doubtful += of.Doubtful
}

type webRunsJSON struct {
	Totals webTotals `json:"totals"` // with those of the runs that are under way
	Runs   []webRun  `json:"runs"`   // newest first
}

func (p *webPage) showRuns(*http.Request) (any, error) {
	p.runs.mu.Lock()
	defer p.runs.mu.Unlock()
	answer := webRunsJSON{Totals: p.runs.totals, Runs: []webRun{}}
	for n, run := range p.runs.last {
		if !run.Ended {
			answer.Totals.add(run.webTotals)
		}
		if n < webMaxRuns || !run.Ended {
			answer.Runs = append(answer.Runs, *run)
		}
	}
	return answer, nil
}

// stop ends a run in order.
func (p *webPage) stop(r *http.Request) (any, error) {
	var order struct {
		ID int `json:"id"`
	}
	if !p.write {
		return nil, errReadOnly
	}
	if err := readBody(r, &order); err != nil {
		return nil, err
	}
	p.runs.mu.Lock()
	defer p.runs.mu.Unlock()
	at := slices.IndexFunc(p.runs.last, func(run *webRun) bool { return run.ID == order.ID })
	if at < 0 {
		return nil, fmt.Errorf("%w: run %d", adapters.ErrNotFound, order.ID)
	}
	p.runs.last[at].cancel()
	return struct{}{}, nil
}

// webNotes keeps the beginning of what a run has to say beside its report.
type webNotes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *webNotes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text.Write(b[:min(len(b), webMaxNotes-n.text.Len())])
	return len(b), nil
}

func (n *webNotes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}
