package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Records keeps the bindings of exchanges at a broker that has no bindings of its own: one record
// for each exchange, by its name. What is in it is the business of [Routes]. The methods are called
// concurrently.
type Records interface {
	// Load returns a record and its revision as they are now: it sees every Store that returned
	// before Load was called, whoever called it. So it asks the leader, not a replica or a cache.
	// A record that does not exist is nil, with whatever revision Store takes to make it.
	Load(ctx context.Context, exchange string) (record []byte, revision uint64, err error)

	// Store replaces a record that still has this revision. If it has another one, nothing is
	// stored, and the error wraps [ErrChanged]. With any other error it may have been stored.
	Store(ctx context.Context, exchange string, record []byte, revision uint64) error
}

// ErrChanged is what Store of [Records] returns for a record that has changed since it was loaded.
var ErrChanged = errors.New("motif: the record has changed")

// Routes has the publisher route, for brokers such as NATS or Kafka whose consumers filter a log
// while they read it. There a queue is a log of its own; [Routes.Route] says which queues get a
// copy of a message, and the adapter stores it in each.
//
// The bindings of an exchange are read anew for each publish, so that what was bound before the
// publish began counts, and what was unbound does not. One read serves all publishes of a Routes
// that were waiting when it began. All methods may be called concurrently.
//
// An error of Bind, Unbind, Declare or Remove that is none of adapters.ErrMismatch and
// adapters.ErrInvalid is that of the Records; then it is not known whether the change was made.
// Making it again is harmless.
type Routes struct {
	records Records
	tasks   *Tasks

	mu    sync.Mutex
	reads map[string]*reads // by exchange, while anybody reads it
	known map[string]table  // the last one read, so that one that has not changed is not decoded again
}

// NewRoutes returns the Routes that are kept in records. Each read runs in a goroutine of tasks,
// and ends when nobody waits for it.
func NewRoutes(records Records, tasks *Tasks) *Routes {
	return &Routes{records: records, tasks: tasks, reads: map[string]*reads{}, known: map[string]table{}}
}

// Bound is a queue that is bound to an exchange.
type Bound struct {
	Queue string `json:"queue"`

	// ID tells a queue from another of its name that was deleted before it was made. "" where the
	// adapter need not tell.
	ID string `json:"id,omitempty"`
}

// table is an exchange and its bindings: the content of a record.
type table struct {
	Kind   string  `json:"kind"`
	Queues []bound `json:"queues,omitempty"`

	revision uint64
}

// bound is a queue with its keys, none where the exchange does not route by key.
type bound struct {
	Bound
	Keys []string `json:"keys,omitempty"`
}

// Declare makes an exchange, unless it exists. One of another kind is an adapters.ErrMismatch.
func (r *Routes) Declare(ctx context.Context, e adapters.Endpoint) error {
	return r.change(ctx, e, func(*table) bool { return false })
}

// Bind adds bindings to those that a queue has, and declares the exchange. The keys are those of an
// [adapters.Source] of kind e.Kind: none for a Fanout. Bindings of a queue of the same name with
// another ID end, because that queue was deleted.
func (r *Routes) Bind(ctx context.Context, e adapters.Endpoint, q Bound, keys ...string) error {
	return r.change(ctx, e, func(t *table) (changed bool) {
		i := slices.IndexFunc(t.Queues, func(b bound) bool { return b.Queue == q.Queue })
		if i < 0 {
			i = len(t.Queues)
			t.Queues, changed = append(t.Queues, bound{Bound: q}), true
		}
		b := &t.Queues[i]
		if b.ID != q.ID {
			*b, changed = bound{Bound: q}, true
		}
		for _, key := range keys {
			if key = normal(e.Kind, key); !slices.Contains(b.Keys, key) {
				b.Keys, changed = append(b.Keys, key), true
			}
		}
		return changed
	})
}

// Unbind takes bindings from a queue, whatever its ID. Those that do not exist are no error. The
// keys are those of Bind.
func (r *Routes) Unbind(ctx context.Context, e adapters.Endpoint, queue string, keys ...string) error {
	return r.changeIfThere(ctx, e, func(t *table) bool {
		i := slices.IndexFunc(t.Queues, func(b bound) bool { return b.Queue == queue })
		if i < 0 {
			return false
		}
		b := &t.Queues[i]
		before := len(b.Keys)
		for _, key := range keys {
			key = normal(e.Kind, key)
			b.Keys = slices.DeleteFunc(b.Keys, func(k string) bool { return k == key })
		}
		if len(b.Keys) == 0 {
			t.Queues = slices.Delete(t.Queues, i, i+1)
			return true
		}
		return len(b.Keys) != before
	})
}

// Remove ends all bindings of a queue that was deleted. One of the same name with another ID keeps
// its own. The kind of e does not matter.
func (r *Routes) Remove(ctx context.Context, e adapters.Endpoint, q Bound) error {
	e.Kind = adapters.Exchange
	return r.changeIfThere(ctx, e, func(t *table) bool {
		before := len(t.Queues)
		t.Queues = slices.DeleteFunc(t.Queues, func(b bound) bool { return b.Bound == q })
		return len(t.Queues) != before
	})
}

// Route returns the queues that get a copy of a message with this key, each once. None is no error.
// A missing exchange is declared, but one of kind adapters.Exchange is an adapters.ErrNotFound;
// that goes by the kind that the exchange has. Any other that is not of its declared kind is an
// adapters.ErrMismatch.
func (r *Routes) Route(ctx context.Context, e adapters.Endpoint, key string) ([]Bound, error) {
	t, err := r.read(ctx, e.Name)
	if err == nil && t.Kind == "" && e.Kind != adapters.Exchange {
		if err = r.Declare(ctx, e); err == nil {
			t, err = r.read(ctx, e.Name)
		}
	}
	if err == nil {
		err = t.check(e)
	}
	if err != nil {
		return nil, err
	}
	var matches []Bound
	for _, b := range t.Queues {
		if t.matches(b, key) {
			matches = append(matches, b.Bound)
		}
	}
	return matches, nil
}

// Queues returns all queues that are bound to an exchange, none if it does not exist.
func (r *Routes) Queues(ctx context.Context, exchange string) ([]Bound, error) {
	t, err := r.read(ctx, exchange)
	all := make([]Bound, len(t.Queues))
	for i, b := range t.Queues {
		all[i] = b.Bound
	}
	return all, err
}

// Bindings returns the bindings of a queue to an exchange, none if there are none, and none if the
// exchange does not exist.
func (r *Routes) Bindings(ctx context.Context, exchange string, q Bound) ([]adapters.Binding, error) {
	t, err := r.read(ctx, exchange)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(t.Queues, func(b bound) bool { return b.Bound == q })
	if i < 0 {
		return nil, nil
	}
	keys := t.Queues[i].Keys
	if len(keys) == 0 {
		return []adapters.Binding{{Exchange: exchange}}, nil
	}
	bindings := make([]adapters.Binding, len(keys))
	for n, key := range keys {
		bindings[n] = adapters.Binding{Exchange: exchange, Key: key}
	}
	return bindings, nil
}

// Kind returns the kind that an exchange was declared as, as [adapters.Kind] has it in words. An
// exchange that does not exist is an adapters.ErrNotFound.
func (r *Routes) Kind(ctx context.Context, exchange string) (string, error) {
	t, err := r.read(ctx, exchange)
	if err == nil {
		err = t.check(adapters.Endpoint{Kind: adapters.Exchange, Name: exchange})
	}
	return t.Kind, err
}

func (t *table) matches(b bound, key string) bool {
	switch t.Kind {
	case adapters.Direct.String():
		return slices.Contains(b.Keys, key)
	case adapters.Topic.String():
		return slices.ContainsFunc(b.Keys, func(pattern string) bool { return adapters.MatchTopic(pattern, key) })
	}
	return true
}

// check returns an error if e cannot be used as this.
func (t *table) check(e adapters.Endpoint) error {
	switch {
	case t.Kind == "":
		return fmt.Errorf("%s: %w", e, adapters.ErrNotFound)
	case e.Kind != adapters.Exchange && t.Kind != e.Kind.String():
		return fmt.Errorf("%s is of kind %s: %w", e, t.Kind, adapters.ErrMismatch)
	}
	return nil
}

func normal(k adapters.Kind, key string) string {
	if k == adapters.Topic {
		return adapters.NormalPattern(key)
	}
	return key
}

// changeIfThere is change that makes no exchange: where there is none, nothing is bound.
func (r *Routes) changeIfThere(ctx context.Context, e adapters.Endpoint, edit func(*table) bool) error {
	switch t, err := r.load(ctx, e.Name); {
	case err != nil:
		return err
	case t.Kind == "":
		return nil
	}
	return r.change(ctx, e, edit)
}

// change edits an exchange, made if it is missing, unless edit says that there is nothing to
// change. When others change it at the same time it begins anew: one of them has succeeded then.
func (r *Routes) change(ctx context.Context, e adapters.Endpoint, edit func(*table) bool) error {
	wait := Backoff{Min: time.Millisecond, Max: 50 * time.Millisecond}
	for {
		t, err := r.load(ctx, e.Name)
		if err != nil {
			return err
		}
		isNew := t.Kind == ""
		if isNew && e.Kind != adapters.Exchange {
			t.Kind = e.Kind.String()
		}
		if err := t.check(e); err != nil {
			return err
		}
		if !edit(&t) && !isNew {
			return nil
		}
		record, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("the bindings of %s: %w", e, err)
		}
		if err := r.records.Store(ctx, e.Name, record, t.revision); !errors.Is(err, ErrChanged) {
			return err
		}
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return fmt.Errorf("binding to %s: %w", e, ctx.Err())
		}
	}
}

// load reads an exchange, for a caller who may change what it gets.
func (r *Routes) load(ctx context.Context, exchange string) (t table, err error) {
	record, revision, err := r.records.Load(ctx, exchange)
	if err != nil {
		return t, err
	}
	return decode(exchange, record, revision)
}

func decode(exchange string, record []byte, revision uint64) (t table, err error) {
	if len(record) > 0 {
		d := json.NewDecoder(bytes.NewReader(record))
		if err := d.Decode(&t); err != nil || t.Kind == "" {
			return t, fmt.Errorf("the bindings of exchange %q are not as they were stored: %w", exchange, errors.Join(adapters.ErrMismatch, err))
		}
	}
	t.revision = revision
	return t, nil
}

// reads are those of one exchange: one that is under way, and one that begins when it ends.
type reads struct {
	now, next *read
}

type read struct {
	done    chan struct{}
	waiting int // callers; with the last one the read ends
	ctx     context.Context
	cancel  context.CancelFunc

	table table // once done, and not to be changed, as others have it too
	err   error
}

func newRead() *read {
	n := &read{done: make(chan struct{})}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// read returns an exchange as it is at some time from now on.
func (r *Routes) read(ctx context.Context, exchange string) (table, error) {
	r.mu.Lock()
	all := r.reads[exchange]
	var mine *read
	switch {
	case all == nil:
		all = &reads{now: newRead()}
		mine = all.now
		if !r.tasks.Go(func() { r.readAll(exchange, all) }) {
			r.mu.Unlock()
			mine.cancel()
			return table{}, adapters.ErrClosed
		}
		r.reads[exchange] = all
	case all.next == nil:
		all.next = newRead()
		mine = all.next
	default:
		mine = all.next
	}
	mine.waiting++
	r.mu.Unlock()

	select {
	case <-mine.done:
		return mine.table, mine.err
	case <-ctx.Done():
	case <-r.tasks.Closed():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if mine.waiting--; mine.waiting == 0 {
		mine.cancel()
		if all.next == mine { // nobody may join it
			all.next = nil
		}
	}
	if err := ctx.Err(); err != nil {
		return table{}, fmt.Errorf("reading the bindings of exchange %q: %w", exchange, err)
	}
	return table{}, adapters.ErrClosed
}

// readAll reads an exchange as long as somebody waits for it.
func (r *Routes) readAll(exchange string, all *reads) {
	for {
		record, revision, err := r.records.Load(all.now.ctx, exchange)
		r.mu.Lock()
		t, seen := r.known[exchange]
		if !seen || t.revision != revision || len(record) == 0 || err != nil {
			if err == nil {
				t, err = decode(exchange, record, revision)
			}
			if err == nil && t.Kind != "" {
				r.known[exchange] = t
			} else {
				delete(r.known, exchange)
			}
		}
		all.now.table, all.now.err = t, err
		close(all.now.done)
		all.now.cancel()
		all.now, all.next = all.next, nil
		over := all.now == nil
		if over {
			delete(r.reads, exchange)
		}
		r.mu.Unlock()
		if over {
			return
		}
	}
}
