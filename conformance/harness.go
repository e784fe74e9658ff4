package conformance

import (
	"context"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Harness is how the suite gets at the broker behind an adapter. Only Connect
// is required. A case that needs a hook that is nil is not applicable.
//
// All of a harness's clients see the same broker. Those of two harnesses may
// do so too: names are never used twice.
type Harness struct {
	// Connect returns a new client, which the suite closes.
	Connect func(context.Context) (adapters.Driver, error)

	// Close frees what the harness holds, after all of its clients are closed.
	Close func(context.Context) error

	// Restart stops the broker and starts it again. It returns when clients can
	// connect again. If the broker is nothing but what its clients do, they lose
	// their sessions, and with them all that they know and have not stored.
	Restart func(context.Context) error

	// Cut ends the sessions of all clients, as a broken connection does.
	Cut func(context.Context) error

	// Freeze makes the broker stand still, with its connections open, until
	// thaw is called.
	Freeze func(context.Context) (thaw func() error, err error)

	// Block makes the broker take no more messages, as one does that is short of
	// memory, until unblock is called.
	Block func(context.Context) (unblock func() error, err error)

	// Depth returns how many messages wait in a queue: those that consumers hold
	// do not count.
	Depth func(ctx context.Context, queue string) (int, error)

	// Delete deletes a queue behind the adapter's back.
	Delete func(ctx context.Context, queue string) error

	// HoldLimit makes the broker take back what a subscription holds for longer than d, until undo
	// is called. It need only apply to subscriptions with d as their HoldTime, made from now on by
	// clients that connect from now on.
	HoldLimit func(ctx context.Context, d time.Duration) (undo func() error, err error)

	// Secret is a password that the clients log in with, which must not show
	// anywhere.
	Secret string
}

// Hook is a set of hooks of a [Harness].
type Hook uint32

// The hooks that a case may need.
const (
	WithRestart Hook = 1 << iota
	WithCut
	WithFreeze
	WithBlock
	WithDepth
	WithDelete
	WithSecret
	WithHoldLimit
)

var hookNames = [...]string{"restart", "cut", "freeze", "block", "depth", "delete", "secret", "hold limit"}

// String returns the names of the hooks in the set, separated by commas.
func (h Hook) String() string {
	var names []string
	for i, name := range hookNames {
		if h&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// hooks returns the set of those that are there.
func (h *Harness) hooks() (set Hook) {
	for hook, there := range map[Hook]bool{
		WithRestart: h.Restart != nil,
		WithCut:     h.Cut != nil,
		WithFreeze:  h.Freeze != nil,
		WithBlock:   h.Block != nil,
		WithDepth:   h.Depth != nil,
		WithDelete:  h.Delete != nil,
		WithSecret:  h.Secret != "",

		WithHoldLimit: h.HoldLimit != nil,
	} {
		if there {
			set |= hook
		}
	}
	return set
}

// Opener returns a harness. It is called for each case, so that it should be
// quick: the broker itself may be shared.
type Opener func(context.Context) (*Harness, error)
