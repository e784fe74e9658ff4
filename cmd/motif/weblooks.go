package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
)

const (
	webMaxQueues  = 500  // queues that the page shows
	webMaxLetters = 200  // letters that it shows at a time
	webMaxPayload = 4096 // bytes of each payload that it shows
	webMaxFields  = 100  // fields and headers of each letter
	webMaxText    = 1000 // characters of a sentence
)

// webQueues is what the queues were like just now, so that several pages are no more work for the
// broker than one.
type webQueues struct {
	mu     sync.Mutex
	at     time.Time
	answer webQueuesJSON
}

const webQueuesAge = time.Second

type webQueuesJSON struct {
	Broker      string         `json:"broker"`
	Write       bool           `json:"write"`
	CountsLooks bool           `json:"counts_looks"`
	Queues      []webQueueJSON `json:"queues"`
	More        int            `json:"more"` // queues that are not shown
}

type webQueueJSON struct {
	queueJSON
	Label   string `json:"label"`             // the name, fit to be shown
	Age     string `json:"age"`               // of the next message
	Letters string `json:"letters,omitempty"` // the queue of its dead letters
}

func (p *webPage) showQueues(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), webDepthTimeout)
	defer cancel()
	p.queues.mu.Lock()
	defer p.queues.mu.Unlock()
	if !p.queues.at.IsZero() && time.Since(p.queues.at) < webQueuesAge {
		return p.queues.answer, nil
	}
	found, dead, err := p.i.findQueues(ctx, p.driver)
	if err != nil {
		return nil, err
	}
	answer := webQueuesJSON{Broker: p.driver.Features().Adapter, Write: p.write, Queues: []webQueueJSON{}, CountsLooks: deadletters.New(p.driver, "").CountsLooks()}
	for n, q := range found {
		if n == webMaxQueues {
			answer.More = len(found) - n
			break
		}
		shown := webQueueJSON{queueJSON: newQueueJSON(q, -1), Label: safe(q.Name, 80), Age: queueAge(q)}
		if strings.HasSuffix(q.Name, deadSuffix) {
			shown.Letters = q.Name
		} else if n, ok := dead[q.Name+deadSuffix]; ok {
			shown.Dead, shown.Letters = &n, q.Name+deadSuffix
		}
		answer.Queues = append(answer.Queues, shown)
	}
	p.queues.answer, p.queues.at = answer, time.Now()
	return answer, nil
}

type webDeadJSON struct {
	Letters []webLetterJSON `json:"letters"`
	Matched int             `json:"matched"` // letters that were picked, shown or not
	Seen    int             `json:"seen"`
	Unseen  int             `json:"unseen"`
}

// webLetterJSON is a letter as the page shows it. All of it but Digest is fit to be shown.
type webLetterJSON struct {
	Digest    string      `json:"digest"`
	Ref       string      `json:"ref"`
	Age       string      `json:"age"`
	Attempts  int         `json:"attempts"`
	From      string      `json:"from"`
	Reason    string      `json:"reason"`
	Bytes     int         `json:"bytes"`
	Sentences []string    `json:"sentences"`
	Fields    [][2]string `json:"fields"`
	Payload   string      `json:"payload"`
	More      int         `json:"more"` // bytes of the payload that are not shown
	Note      string      `json:"note"` // what is wrong with it
}

// showDead looks at a queue once, for all that the page shows of its letters: each look may count.
func (p *webPage) showDead(r *http.Request) (any, error) {
	query := r.URL.Query()
	queue := query.Get("queue")
	f, err := newWebFilter(query.Get("reason"), query.Get("from"), query.Get("older"), query.Get("younger"), query["header"], query["path"])
	if err != nil {
		return nil, err
	}
	filter, err := f.filter(nil)
	if err != nil {
		return nil, err
	}
	done, err := p.runs.hold(queue)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(r.Context(), webLookTimeout)
	defer cancel()
	look, err := deadletters.New(p.driver, queue).List(ctx, filter, adapters.MaxBrowse)
	if err != nil {
		return nil, err
	}
	answer := webDeadJSON{Letters: []webLetterJSON{}, Matched: len(look.Letters), Seen: look.Seen, Unseen: look.Unseen}
	now := time.Now()
	for n := range min(len(look.Letters), webMaxLetters) {
		answer.Letters = append(answer.Letters, newWebLetterJSON(&look.Letters[n], now))
	}
	return answer, nil
}

func newWebLetterJSON(l *deadletters.Letter, now time.Time) webLetterJSON {
	shown := webLetterJSON{
		Digest: l.Digest(), Ref: safe(l.Ref(), 40), Age: deadletters.Short(l.Age(now)), Attempts: l.Attempts(), From: safe(l.From(), 80),
		Reason: safe(l.Reason(), 200), Bytes: len(l.Message.Payload), Fields: fields(l, now),
	}
	shown.Fields = shown.Fields[:min(len(shown.Fields), webMaxFields)]
	for _, s := range l.Explain(now) {
		shown.Sentences = append(shown.Sentences, safe(s, webMaxText))
	}
	var err error
	if shown.Payload, shown.More, err = payload(l, webMaxPayload); err != nil {
		shown.Note = safe(err.Error()+". It is shown as it is.", webMaxText)
	}
	return shown
}

// newWebFilter returns the flags that pick letters, from what the page's form has.
func newWebFilter(reason, from, older, younger string, headers, paths []string) (*letterFlags, error) {
	f := &letterFlags{reason: reason, from: from, headers: headers, payload: paths}
	var errs [2]error
	f.older, errs[0] = webDuration("older", older)
	f.younger, errs[1] = webDuration("younger", younger)
	return f, errors.Join(errs[:]...)
}

func webDuration(name, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, usagef("-%s is a duration such as 90s, 30m or 12h, not %q", name, text)
	}
	return d, nil
}
