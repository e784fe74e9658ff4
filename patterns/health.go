package patterns

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Health is how a bus is doing at one moment. [Health.Problems] judges it. Its JSON form has the
// names below; fields may be added.
type Health struct {
	Time   time.Time `json:"time"`
	Closed bool      `json:"closed"` // Close was called

	// Connections are those of the driver; nil if the adapter does not report them, as it does if
	// it has the ability [adapters.CanReportHealth].
	Connections []adapters.Connection `json:"connections"`

	// Blocked reports whether the broker has blocked a connection: it is short of memory or disk,
	// and publishes wait.
	Blocked bool `json:"blocked"`

	// Subscriptions are those that run, and those that ended with an error, until another one to
	// the same is begun. At most 100 that ended are kept, the last ones.
	Subscriptions []SubscriptionHealth `json:"subscriptions"`

	// Err is what is wrong with the options that the bus was made with, a text in JSON, error.
	Err error `json:"-"`
}

// SubscriptionState is the part of its life that a subscription is in.
type SubscriptionState string

// The states of a subscription, in this order.
const (
	StateRunning  SubscriptionState = "running"  // also while a lost connection is made again, see Health.Connections
	StateDraining SubscriptionState = "draining" // it fetches no more, and finishes what is in hand
	StateEnded    SubscriptionState = "ended"    // with the error that Wait returns
)

// SubscriptionHealth is how one subscription is doing. What is known of times begins with the first
// call of [Bus.Health]: a message that was in hand then counts as received then.
type SubscriptionHealth struct {
	Kind  string            `json:"kind"`            // "work queue", "PubSub", "Routed", "Topic" or "RPC"
	Name  string            `json:"name"`            // of the queue, exchange or function
	Group string            `json:"group,omitempty"` // of an exchange's subscription that has one
	Queue string            `json:"queue,omitempty"` // whose messages it gets; "" for a private one
	State SubscriptionState `json:"state"`

	Workers      int       `json:"workers"`
	InHand       int       `json:"in_hand"`                 // messages that workers are at work on
	OldestInHand time.Time `json:"oldest_in_hand,omitzero"` // when the oldest of them was received
	LastMessage  time.Time `json:"last_message,omitzero"`   // when a worker received the last one

	// Late are the handlers that did not return within a second of the end of [HandlerTimeout].
	Late []LateHandler `json:"late,omitempty"`

	// Err is why it ended, a text in JSON, error.
	Err error `json:"-"`
}

// LateHandler is a handler that ignores the end of its time.
type LateHandler struct {
	ID  string    `json:"id"`  // of its message
	Due time.Time `json:"due"` // when its time was over
}

// MarshalJSON implements [json.Marshaler].
func (h Health) MarshalJSON() ([]byte, error) {
	type plain Health
	return json.Marshal(struct {
		plain
		Error string `json:"error,omitempty"`
	}{plain(h), errorText(h.Err)})
}

// MarshalJSON implements [json.Marshaler].
func (s SubscriptionHealth) MarshalJSON() ([]byte, error) {
	type plain SubscriptionHealth
	return json.Marshal(struct {
		plain
		Error string `json:"error,omitempty"`
	}{plain(s), errorText(s.Err)})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// String names the subscription: work queue "orders".
func (s SubscriptionHealth) String() string {
	text := fmt.Sprintf("%s %q", s.Kind, s.Name)
	if s.Group != "" {
		text += fmt.Sprintf(", group %q", s.Group)
	}
	return text
}

// Problem keeps a bus from doing its work.
type Problem struct {
	Reason string `json:"reason"` // in words, for people

	// Lasting is a problem that does not pass by itself. A restart of the process may help, and
	// nothing else in it will: a subscription has ended, or a handler does not return. What is not
	// lasting is between the broker and Motif, which goes on as soon as the broker does.
	Lasting bool `json:"lasting"`
}

// Problems returns what keeps the bus from doing its work, those that last first. While there is
// one the process is not ready for work; while a lasting one, it does not do all of its work again.
func (h Health) Problems() []Problem {
	var found []Problem
	add := func(lasting bool, format string, args ...any) {
		found = append(found, Problem{fmt.Sprintf(format, args...), lasting})
	}
	if h.Err != nil {
		add(true, "the bus cannot be used: %v", h.Err)
	}
	for _, s := range h.Subscriptions {
		if s.State == StateEnded {
			add(true, "%s has ended: %v", s, s.Err)
		}
		for _, late := range s.Late {
			add(true, "%s: a handler has not returned %v after the end of its time, with message %q",
				s, h.Time.Sub(late.Due).Round(time.Second), clip(late.ID, 64))
		}
	}
	if h.Closed {
		add(false, "the bus is closed")
		return found
	}
	for _, c := range h.Connections {
		switch {
		case !c.Up && c.LastError != nil:
			add(false, "no connection to the broker, to %s: %v", c.Role, c.LastError)
		case !c.Up:
			add(false, "no connection to the broker yet, to %s", c.Role)
		case c.Blocked:
			add(false, "the broker takes no messages: %s", cmp.Or(c.BlockedReason, "it does not say why"))
		}
	}
	return found
}

// Health returns how the bus is doing. It asks nobody and does not block. The first call makes the
// workers note, from then on, when a message comes.
func (b *Bus) Health() Health {
	b.watched.Store(true)
	h := Health{Time: time.Now(), Subscriptions: []SubscriptionHealth{}, Err: b.err}
	if r, ok := b.driver.(adapters.HealthReporter); ok && b.features.Ability.Has(adapters.CanReportHealth) {
		h.Connections = r.Health().Connections
	}
	for _, c := range h.Connections {
		h.Blocked = h.Blocked || c.Blocked
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	h.Closed = b.closed
	for s := range b.subscriptions {
		h.Subscriptions = append(h.Subscriptions, s.health(h.Time))
	}
	h.Subscriptions = append(h.Subscriptions, b.failed...)
	slices.SortStableFunc(h.Subscriptions, func(x, y SubscriptionHealth) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Group, y.Group), cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.State, y.State))
	})
	return h
}

// maxFailed bounds how many subscriptions that ended with an error are remembered.
const maxFailed = 100

// noteFailed remembers that a subscription ended, for err. The bus's lock is held, as below.
func (b *Bus) noteFailed(s *Subscription, err error) {
	h := SubscriptionHealth{
		Kind: s.kind(), Name: s.origin.Source.Name, Group: s.origin.Group, Queue: s.queue, Workers: s.width, State: StateEnded, Err: err,
	}
	b.forgetFailed(s)
	if len(b.failed) >= maxFailed {
		b.failed = slices.Delete(b.failed, 0, 1)
	}
	b.failed = append(b.failed, h)
}

// forgetFailed is for a subscription that takes the place of one that ended.
func (b *Bus) forgetFailed(s *Subscription) {
	b.failed = slices.DeleteFunc(b.failed, func(h SubscriptionHealth) bool {
		return h.Kind == s.kind() && h.Name == s.origin.Source.Name && h.Group == s.origin.Group
	})
}

func (s *Subscription) kind() string {
	if _, isServer := s.processor.(*callServer); isServer {
		return "RPC"
	}
	return patternNames[s.origin.Source.Kind]
}

func (s *Subscription) health(now time.Time) SubscriptionHealth {
	h := SubscriptionHealth{
		Kind: s.kind(), Name: s.origin.Source.Name, Group: s.origin.Group, Queue: s.queue, Workers: s.width, State: StateRunning,
	}
	if s.fetching.Err() != nil {
		h.State = StateDraining
	}
	for _, w := range s.workers {
		w.addTo(&h, now)
	}
	return h
}

// addTo adds what the worker is doing.
func (w *worker) addTo(h *SubscriptionHealth, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() && w.inHand != nil { // received when nobody asked yet
		w.since = now
	}
	if w.since.After(h.LastMessage) {
		h.LastMessage = w.since
	}
	if w.inHand == nil {
		return
	}
	h.InHand++
	if h.OldestInHand.IsZero() || w.since.Before(h.OldestInHand) {
		h.OldestInHand = w.since
	}
	if after := w.due.Load(); after != 0 {
		if due := w.s.bus.made.Add(time.Duration(after)); now.Sub(due) > abandonAfter {
			h.Late = append(h.Late, LateHandler{w.last.id, due})
		}
	}
}

// noteReceived notes when the worker received the message that it is about to handle, once somebody
// has asked for the bus's health.
func (w *worker) noteReceived() {
	if w.s.bus.watched.Load() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.since = time.Now()
	}
}
