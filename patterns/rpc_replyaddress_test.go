package patterns

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

// shortLived loses its reply addresses while it tells them.
type shortLived struct {
	*memory.Client
	n, spun atomic.Int64
}

func (d *shortLived) ReceiveReplies(_ context.Context, _ func(adapters.Delivery), lost func(error)) (string, error) {
	n, started := d.n.Add(1), make(chan struct{})
	go func() {
		close(started)
		for range n % 200 {
			d.spun.Add(1)
		}
		lost(errors.New("cut"))
	}()
	<-started
	return "address", nil
}

// TestLostReplyAddressesAreForgotten: once a reply address is lost no later call is given it.
func TestLostReplyAddressesAreForgotten(t *testing.T) {
	broker := memory.New()
	defer broker.Close()
	b := New(&shortLived{Client: broker.Connect()})
	defer func() { _ = b.Close(t.Context()) }()
	for range 100_000 {
		addr, err := b.replies.open(t.Context())
		if err != nil {
			continue
		}
		<-addr.lost
		if b.replies.current() == addr {
			t.Fatal("a lost reply address is kept")
		}
	}
}
