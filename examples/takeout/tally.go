package main

import (
	"context"
	"sync"
	"time"
)

// tally counts what became of the orders, id by id.
type tally struct {
	run      string
	names    []string      // of the services, in the order to show them
	progress chan struct{} // a service has handled one more

	mu       sync.Mutex
	placed   map[string]bool // by id: a customer was told so
	waits    []time.Duration // of these customers
	failures []error         // what the others were told
	accounts map[string]*account
}

// account is what is known of one service.
type account struct {
	handled map[string]bool // by id
	owed    int             // placed and not handled
	repeats int             // handled again: at least once is the promise
	worked  []time.Duration // over an order
	after   []time.Duration // from placed to done
}

func newTally(run string, names []string) *tally {
	t := &tally{
		run: run, names: names, progress: make(chan struct{}, 1),
		placed: map[string]bool{}, accounts: map[string]*account{},
	}
	for _, name := range names {
		t.accounts[name] = &account{handled: map[string]bool{}}
	}
	return t
}

// answered notes what a customer was told about an order, and after how long.
func (t *tally) answered(id string, wait time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failures = append(t.failures, err)
		return
	}
	t.placed[id] = true
	t.waits = append(t.waits, wait)
	for _, a := range t.accounts {
		if !a.handled[id] {
			a.owed++
		}
	}
}

// done is the handler of order-done.
func (t *tally) done(_ context.Context, d Done) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.accounts[d.Service]
	switch {
	case d.Run != t.run || a == nil:
		return nil // of another evening, or a service nobody asked about
	case a.handled[d.OrderID]:
		a.repeats++
		return nil
	case t.placed[d.OrderID]:
		a.owed--
	}
	a.handled[d.OrderID] = true
	a.worked = append(a.worked, d.Worked)
	a.after = append(a.after, d.After)
	select {
	case t.progress <- struct{}{}:
	default:
	}
	return nil
}

// owed is how many orders were placed that these services have not handled.
func (t *tally) owed(names ...string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, name := range names {
		n += t.accounts[name].owed
	}
	return n
}

// await returns once these services owe nothing, or have handled nothing for
// as long as patience.
func (t *tally) await(patience time.Duration, names ...string) {
	idle := time.NewTimer(patience)
	defer idle.Stop()
	for t.owed(names...) > 0 {
		select {
		case <-t.progress:
			idle.Reset(patience)
		case <-idle.C:
			return
		}
	}
}
