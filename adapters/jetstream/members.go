package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// A queue that goes with its last consumer has a record of its consumers, changed by
// compare-and-set beside those of bindings: who leaves last closes it, and nobody joins what is
// closed. A consumer answers while it lives, so that others find those that have died.

// members is such a record.
type members struct {
	ID      string    `json:"id"` // of the queue
	Members []string  `json:"members,omitempty"`
	Closed  time.Time `json:"closed,omitzero"` // when the last one left, who then deletes the queue
}

const membersPrefix = "amq.jetstream.members." // before the queue's name, as no exchange is called

func aliveSubject(member string) string { return "motif.alive." + member }

// answerAlive says that a member lives, as long as the session does or until it is unsubscribed.
func (s *session) answerAlive(member string) (*nats.Subscription, error) {
	sub, err := s.nc.Subscribe(aliveSubject(member), func(m *nats.Msg) { _ = m.Respond(nil) })
	if err != nil {
		return nil, s.sendError(err)
	}
	return sub, nil
}

// join makes a consumer a member. It returns false if the queue is about to be deleted.
func (d *Driver) join(ctx context.Context, s *session, q *queue, member string) (joined bool, err error) {
	alive, err := s.answerAlive(member)
	if err != nil {
		return false, err
	}
	err = d.changeMembers(ctx, s, q, func(m *members) bool {
		joined = false
		switch {
		case m.ID != q.id:
			*m = members{ID: q.id}
		case !m.Closed.IsZero() && time.Since(m.Closed) < 2*apiTimeout:
			return false
		case !m.Closed.IsZero(): // and who closed it has died
			m.Closed = time.Time{}
		}
		joined = true
		if slices.Contains(m.Members, member) {
			return false
		}
		m.Members = append(m.Members, member)
		return true
	})
	if err != nil || !joined {
		_ = alive.Unsubscribe()
		return false, err
	}
	d.mu.Lock()
	old := d.alive[member]
	d.alive[member] = alive
	d.mu.Unlock()
	if old != nil {
		_ = old.Unsubscribe()
	}
	return true, nil
}

// leave ends a membership, and reports whether it was the last one, so that the queue is to be
// deleted.
func (d *Driver) leave(ctx context.Context, s *session, q *queue, member string) (last bool) {
	d.mu.Lock()
	alive := d.alive[member]
	delete(d.alive, member)
	d.mu.Unlock()
	if alive != nil {
		_ = alive.Unsubscribe()
	}
	err := d.changeMembers(ctx, s, q, func(m *members) bool {
		last = false
		if m.ID != q.id || !m.Closed.IsZero() {
			return false
		}
		m.Members = slices.DeleteFunc(m.Members, func(other string) bool { return other == member })
		if last = len(m.Members) == 0; last {
			m.Closed = time.Now()
		}
		return true
	})
	return last && err == nil
}

// changeMembers edits a record, without those who have died.
func (d *Driver) changeMembers(ctx context.Context, s *session, q *queue, edit func(*members) bool) error {
	wait := kit.Backoff{Min: time.Millisecond, Max: 50 * time.Millisecond}
	store, name := records{d}, membersPrefix+q.name
	for {
		text, revision, err := store.Load(ctx, name)
		if err != nil {
			return err
		}
		var m members
		if len(text) > 0 && json.Unmarshal(text, &m) != nil {
			return fmt.Errorf("jetstream: the consumers of queue %q are not as they were stored: %w", q.name, adapters.ErrMismatch)
		}
		if m.ID == q.id {
			m.Members = slices.DeleteFunc(m.Members, func(other string) bool { return s.isDead(ctx, other) })
		}
		if !edit(&m) {
			return nil
		}
		if text, err = json.Marshal(m); err != nil {
			return fmt.Errorf("jetstream: the consumers of queue %q: %w", q.name, err)
		}
		if err := store.Store(ctx, name, text, revision); !errors.Is(err, kit.ErrChanged) {
			return err
		}
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return fmt.Errorf("jetstream: the consumers of queue %q: %w", q.name, ctx.Err())
		}
	}
}

// isDead reports whether a member answers no more. One that does not answer in time may live.
func (s *session) isDead(ctx context.Context, member string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	back, err := s.ask(ctx, aliveSubject(member), nil)
	return err == nil && noResponders(back)
}
