//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// features is what a directory does well. All else is refused, by Require.
var features = adapters.Features{
	Adapter: "dir",
	Ability: adapters.CanPersist | adapters.CanConfirm | adapters.CanReturn | adapters.CanGet |
		adapters.CanPassive | adapters.CanRequeue | adapters.CanBalance,
}

func init() {
	adapters.Register("dir", func(ctx context.Context, u *url.URL) (adapters.Driver, error) {
		dir, err := url.PathUnescape(cmp.Or(u.Opaque, u.EscapedPath()))
		if err != nil || dir == "" || u.Host != "" {
			return nil, fmt.Errorf("%w: not of the form dir:relative/path or dir:/absolute/path", adapters.ErrInvalid)
		}
		return connect(ctx, dir)
	})
}

// poll is how soon is noticed what other processes do, and that one died.
const poll = 200 * time.Millisecond

// driver is one client of a directory.
type driver struct {
	dir, id string
	lock    *os.File // the other clients' sign that this one lives

	files    sync.RWMutex // held for reading by whoever works on files, so that Close can wait
	closed   context.Context
	end      context.CancelCauseFunc
	watchers sync.WaitGroup

	mu      sync.Mutex // of held
	held    map[*delivered]struct{}
	session context.Context // ends with closed, or before; guarded by files
	lose    context.CancelCauseFunc
}

// connect returns a client of a directory, which is made if it is missing.
func connect(ctx context.Context, dir string) (*driver, error) {
	d := &driver{dir: dir, id: rand.Text(), held: map[*delivered]struct{}{}}
	d.closed, d.end = context.WithCancelCause(context.Background())
	d.session, d.lose = context.WithCancelCause(d.closed)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err := cmp.Or(os.MkdirAll(d.client(""), 0o777), os.MkdirAll(filepath.Join(dir, "queues"), 0o777))
	if err != nil {
		return nil, wrap(err)
	}
	if d.lock, err = os.Create(d.client(d.id)); err != nil {
		return nil, wrap(err)
	}
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, wrap(errors.Join(err, d.lock.Close()))
	}
	return d, nil
}

func (d *driver) client(id string) string { return filepath.Join(d.dir, "clients", id) }

// alive tells whether a client has its lock. The system frees that of a process
// that dies, however it dies; its empty file stays.
func (d *driver) alive(id string) bool {
	f, err := os.Open(d.client(id))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

func (d *driver) Features() adapters.Features { return features }

// begin comes before work on files, and files.RUnlock after it unless it fails.
func (d *driver) begin(ctx context.Context) error {
	d.files.RLock()
	err := cmp.Or(context.Cause(d.closed), ctx.Err())
	if err != nil {
		d.files.RUnlock()
	}
	return err
}

func (d *driver) Declare(ctx context.Context, s adapters.Source) error {
	_, err := d.declare(ctx, s)
	return err
}

func (d *driver) declare(ctx context.Context, s adapters.Source) (queue, error) {
	q, err := d.queue(s.Name)
	if err := cmp.Or(s.Validate(), features.Require(s.Needs()), err); err != nil {
		return "", err
	}
	if err := d.begin(ctx); err != nil {
		return "", err
	}
	defer d.files.RUnlock()
	if s.Passive {
		_, err := os.Stat(string(q))
		return q, wrap(err)
	}
	if err = os.Mkdir(string(q), 0o777); errors.Is(err, fs.ErrExist) {
		return q, nil
	}
	return q, wrap(cmp.Or(err, flush(filepath.Dir(string(q)))))
}

func (d *driver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	q, err := d.queue(p.To.Name)
	if err := cmp.Or(p.Validate(), features.Require(p.Needs()), err); err != nil {
		return err
	}
	if err := d.begin(ctx); err != nil {
		return err // not a *PublishError, for nothing was sent
	}
	defer d.files.RUnlock()
	p.Attempt = max(p.Attempt, 1)
	if p.Timestamp.IsZero() {
		p.Timestamp = time.Now()
	}
	var failed []adapters.FailedMessage
	for i, m := range msgs {
		err := cmp.Or(context.Cause(d.closed), ctx.Err(), adapters.ValidateMessage(m))
		if err == nil {
			err = q.put(d.id, content{m.UUID, m.Metadata, m.Payload, p.Key, p.Properties})
		}
		switch {
		case err == nil:
			subscriptions.wake(q)
			continue
		case errors.Is(err, adapters.ErrNotFound) && !p.Mandatory:
			continue // routed nowhere
		case errors.Is(err, adapters.ErrNotFound):
			err = adapters.ErrUnroutable
		}
		f := adapters.FailedMessage{Index: i, Err: err}
		if m != nil {
			f.UUID = m.UUID
		}
		failed = append(failed, f)
	}
	if failed != nil {
		return &adapters.PublishError{Failed: failed}
	}
	return nil
}

// Get implements [adapters.Getter].
func (d *driver) Get(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
	q, err := d.declare(ctx, s)
	if err != nil {
		return adapters.Delivery{}, err
	}
	return d.take(ctx, q, new(atomic.Int64))
}

// take claims a message, or returns ErrEmpty. hands counts it while it is in hand.
func (d *driver) take(ctx context.Context, q queue, hands *atomic.Int64) (adapters.Delivery, error) {
	if err := d.begin(ctx); err != nil {
		return adapters.Delivery{}, err
	}
	defer d.files.RUnlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	h := &delivered{driver: d, session: d.session, queue: q, hands: hands}
	c, err := h.claim()
	if err != nil {
		return adapters.Delivery{}, err
	}
	hands.Add(1)
	d.held[h] = struct{}{}
	m := message.NewMessage(c.UUID, c.Payload)
	m.Metadata = c.Metadata
	m.SetContext(d.session)
	return adapters.Delivery{Message: m, Key: c.Key, Redelivered: h.again, Properties: c.Properties, Settler: h}, nil
}

func (d *driver) Close(context.Context) error { // never waits for more than a file
	d.end(adapters.ErrClosed)
	defer d.watchers.Wait()
	d.files.Lock()
	defer d.files.Unlock()
	if d.held == nil {
		return nil
	}
	err := d.giveBack()
	d.held = nil
	return errors.Join(err, os.Remove(d.client(d.id)), d.lock.Close())
}

// giveBack puts back what is in hand, the oldest first.
func (d *driver) giveBack() (errs error) {
	older := func(a, b *delivered) int { return strings.Compare(a.base, b.base) }
	for _, h := range slices.SortedFunc(maps.Keys(d.held), older) {
		errs = errors.Join(errs, h.settle(adapters.Requeue))
	}
	return errs
}

// delivered is a message that is, or was, in hand.
type delivered struct {
	driver  *driver
	session context.Context
	queue   queue
	base    string // its file's name up to the first dot
	again   bool   // it was delivered before
	hands   *atomic.Int64
}

func (h *delivered) Settle(ctx context.Context, o adapters.Outcome) error {
	h.driver.files.RLock()
	defer h.driver.files.RUnlock()
	h.driver.mu.Lock()
	defer h.driver.mu.Unlock()
	if err := context.Cause(h.session); errors.Is(err, adapters.ErrSessionLost) {
		return adapters.ErrStaleDelivery
	} else if err != nil {
		return err
	}
	if _, ok := h.driver.held[h]; !ok {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return h.settle(o)
}

func (h *delivered) settle(o adapters.Outcome) (err error) {
	switch mine := h.queue.path(h.base, ".held.", h.driver.id); o {
	case adapters.Ack, adapters.Reject: // there are no dead letters
		err = os.Remove(mine)
	case adapters.Requeue:
		err = os.Rename(mine, h.queue.path(h.base, ".again"))
	default:
		return fmt.Errorf("%w: outcome %d", adapters.ErrInvalid, o)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // that: deleted with its queue
		return wrap(err)
	}
	delete(h.driver.held, h)
	h.hands.Add(-1)
	subscriptions.wake(h.queue)
	return nil
}
