//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// features is what a directory does well. All else is refused, by Require.
var features = adapters.Features{
	Adapter: "dir",
	Ability: adapters.CanPersist | adapters.CanConfirm | adapters.CanReturn |
		adapters.CanPassive | adapters.CanRequeue | adapters.CanBalance,
}

func init() { adapters.Register("dir", open) }

// spool is a directory with a file for each queue, and a file QUEUE.NUMBER for each
// message that is not settled. Who has it in hand is known in memory only.
type spool struct {
	dir     *os.File // locked: one process at a time has it open
	mu      sync.Mutex
	changed sync.Cond               // there may be more to receive
	waiting map[string][]*delivered // by the queue's file, the oldest first
	last    int                     // the newest message
}

func open(_ context.Context, u *url.URL) (adapters.Driver, error) {
	if u.Path == "" || u.Host != "" {
		return nil, fmt.Errorf("%w: not of the form dir:/path", adapters.ErrInvalid)
	}
	dir, err := os.Open(u.Path)
	if err != nil {
		return nil, unavailable(err)
	}
	s := &spool{dir: dir}
	s.changed.L = &s.mu
	if err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		err = s.load()
	}
	if err != nil {
		return nil, unavailable(errors.Join(fmt.Errorf("opening %s: %w", u.Path, err), dir.Close()))
	}
	return s.connect(dir.Close), nil
}

// load finds what is in the directory. Any message may have been delivered before.
func (s *spool) load() error {
	s.waiting = map[string][]*delivered{}
	files, err := os.ReadDir(s.dir.Name())
	for _, f := range files { // by name, and so each queue's by number
		queue, number, _ := strings.Cut(f.Name(), ".")
		q := s.waiting[queue]
		if n, err := strconv.Atoi(number); err == nil {
			s.last = max(s.last, n)
			q = append(q, &delivered{queue: queue, file: f.Name(), returned: -1})
		}
		s.waiting[queue] = q // which is there, also if it is empty
	}
	return err
}

func (s *spool) path(file string) string { return filepath.Join(s.dir.Name(), file) }

// queueFile names a file so that any queue's name will do.
func queueFile(queue string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(queue))) }

func unavailable(err error) error { return fmt.Errorf("%w: %w", adapters.ErrUnavailable, err) }

// driver is one client of a spool, whose mutex guards it.
type driver struct {
	*spool
	release func() error
	closed  error // ErrClosed, or nil
	held    map[*delivered]bool
	session context.Context // of those held; a test loses it, when it loads again
	lose    context.CancelCauseFunc
}

func (s *spool) connect(release func() error) *driver {
	d := &driver{spool: s, release: release, held: map[*delivered]bool{}}
	d.session, d.lose = context.WithCancelCause(context.Background())
	return d
}

func (d *driver) Features() adapters.Features { return features }

func (d *driver) Declare(ctx context.Context, s adapters.Source) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := cmp.Or(s.Validate(), features.Require(s.Needs()), d.closed, ctx.Err()); err != nil {
		return err
	}
	queue := queueFile(s.Name)
	if _, exists := d.waiting[queue]; exists {
		return nil
	} else if s.Passive {
		return adapters.ErrNotFound
	}
	if err := cmp.Or(os.WriteFile(d.path(queue), []byte(s.Name), 0o666), d.dir.Sync()); err != nil {
		return unavailable(err)
	}
	d.waiting[queue] = nil
	return nil
}

func (d *driver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	d.mu.Lock()
	err := cmp.Or(p.Validate(), features.Require(p.Needs()), d.closed, ctx.Err())
	d.mu.Unlock()
	if err != nil {
		return err // not a *PublishError, for nothing was sent
	}
	p.Attempt = max(p.Attempt, 1)
	if p.Timestamp.IsZero() {
		p.Timestamp = time.Now()
	}
	return kit.PublishEach(msgs, func(m *message.Message) error { return d.publish(ctx, p, m) })
}

// publish returns when the message is on the disk. While it is written its file has
// another name. A gob keeps strings byte by byte, as JSON does not.
func (d *driver) publish(ctx context.Context, p adapters.Publication, m *message.Message) error {
	d.mu.Lock() // for one message, so that nobody waits for a whole batch
	defer d.mu.Unlock()
	if err := cmp.Or(d.closed, ctx.Err(), adapters.ValidateMessage(m)); err != nil {
		return err
	}
	queue := queueFile(p.To.Name)
	if _, exists := d.waiting[queue]; !exists && p.Mandatory {
		return adapters.ErrUnroutable
	} else if !exists {
		return nil
	}
	h := &delivered{queue: queue, file: fmt.Sprintf("%s.%019d", queue, d.last+1)}
	f, err := os.Create(d.path("unfinished"))
	if err == nil {
		content := adapters.Delivery{Message: m, Key: p.Key, Properties: p.Properties}
		content.Foreign = nil // another adapter's
		err = errors.Join(gob.NewEncoder(f).Encode(content), f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(f.Name(), d.path(h.file))
	}
	if err != nil {
		return unavailable(err)
	}
	d.last++
	d.waiting[queue] = append(d.waiting[queue], h)
	d.changed.Broadcast()
	if err := d.dir.Sync(); err != nil {
		return fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, err)
	}
	return nil
}

func (d *driver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if err := cmp.Or(s.ValidateSubscribe(), d.Declare(ctx, s)); err != nil {
		return nil, err
	}
	return &subscription{driver: d, source: s}, nil
}

func (d *driver) Close(context.Context) error {
	d.mu.Lock() // there is no more to wait for
	defer d.mu.Unlock()
	if d.closed != nil {
		return nil
	}
	for h := range d.held {
		h.letGo(true)
	}
	d.closed = adapters.ErrClosed
	d.lose(d.closed)
	d.changed.Broadcast()
	return d.release()
}

// subscription pulls: a message is taken when somebody waits for it, so that
// nothing is fetched ahead, and whoever is idle gets the next one.
type subscription struct {
	driver  *driver
	source  adapters.Source
	inHand  int
	stopped error // ErrStopped, or nil
}

func (s *subscription) Address() string { return s.source.Name }

func (s *subscription) Stop() error {
	s.driver.mu.Lock()
	defer s.driver.mu.Unlock()
	s.stopped = adapters.ErrStopped
	s.driver.changed.Broadcast()
	return nil
}

func (s *subscription) Receive(ctx context.Context) (none adapters.Delivery, err error) {
	d, queue := s.driver, queueFile(s.source.Name)
	d.mu.Lock()
	defer d.mu.Unlock()
	defer context.AfterFunc(ctx, func() {
		d.mu.Lock() // so that it is in Wait, or has not looked at ctx yet
		defer d.mu.Unlock()
		d.changed.Broadcast()
	})()
	over := func() error { return cmp.Or(d.closed, s.stopped, ctx.Err()) }
	for over() == nil && (s.inHand == s.source.Prefetch || len(d.waiting[queue]) == 0) {
		d.changed.Wait()
	}
	if err := over(); err != nil {
		return none, err
	}
	h := d.waiting[queue][0]
	got := adapters.Delivery{Message: message.NewMessage("", nil), Redelivered: h.returned != 0, Returned: h.returned, Settler: h}
	f, err := os.Open(d.path(h.file))
	if err == nil {
		err = errors.Join(gob.NewDecoder(f).Decode(&got), f.Close())
	}
	if err != nil {
		return none, unavailable(fmt.Errorf("message in %s: %w", d.path(h.file), err))
	}
	got.Message.SetContext(d.session)
	h.sub, h.session = s, d.session
	d.waiting[queue] = d.waiting[queue][1:]
	d.held[h] = true
	s.inHand++
	return got, nil
}

// delivered is a message that waits, or is in hand, or was.
type delivered struct {
	queue, file string
	returned    int // 0, or -1: it was delivered before, or may have been
	sub         *subscription
	session     context.Context // in which it was delivered
}

func (h *delivered) Settle(ctx context.Context, o adapters.Outcome) error {
	d := h.sub.driver
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case h.session != d.session:
		return adapters.ErrStaleDelivery
	case d.closed != nil || !d.held[h]: // if it is not held it was settled
		return d.closed
	case ctx.Err() != nil:
		return ctx.Err()
	case o > adapters.Reject:
		return fmt.Errorf("%w: outcome %d", adapters.ErrInvalid, o)
	case o != adapters.Requeue: // Reject is as Ack, for there are no dead letters
		if err := os.Remove(d.path(h.file)); err != nil {
			return unavailable(err)
		}
	}
	h.letGo(o == adapters.Requeue)
	return nil
}

func (h *delivered) letGo(requeue bool) {
	d := h.sub.driver
	delete(d.held, h)
	h.sub.inHand--
	if requeue {
		q := append(d.waiting[h.queue], &delivered{queue: h.queue, file: h.file, returned: -1})
		slices.SortFunc(q, func(a, b *delivered) int { return strings.Compare(a.file, b.file) })
		d.waiting[h.queue] = q
	}
	d.changed.Broadcast()
}
