package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
)

// TestGone: what is sent to a private queue that has just gone, stopped or with its
// connection, reaches none, which is to be said of what is Mandatory, and of nothing else.
func TestGone(t *testing.T) {
	server := connect(t)
	for i := range 20 {
		client := connect(t)
		sub := subscribe(t, client, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1})
		p, must := replyTo(sub.Address()), replyTo(sub.Address())
		must.Mandatory = true
		publish(t, server, p, "a")
		receiveAll(t, sub, "a")
		if i%2 == 0 {
			if err := sub.Stop(); err != nil {
				t.Fatal(err)
			}
		} else if err := client.Close(soon(t)); err != nil {
			t.Fatal(err)
		}
		answers := make(chan error, 2)
		for _, p := range []adapters.Publication{p, must} {
			if err := server.PublishAsync(soon(t), p, msg("b"), func(err error) { answers <- err }); err != nil {
				t.Fatal(err)
			}
		}
		publish(t, server, p, "b")
		wantErr(t, "mandatory", server.Publish(soon(t), must, msg("c")), adapters.ErrUnroutable)
		for range cap(answers) {
			if err := <-answers; err != nil {
				wantErr(t, "asynchronous", err, adapters.ErrUnroutable)
			}
		}
	}
}

// TestFullQueueIsToldSoon: who declares a queue with a MaxLength knows what a nack means. Who does
// not finds out once, and for all who wait.
func TestFullQueueIsToldSoon(t *testing.T) {
	d, other := connect(t), connect(t)
	src := fromQueue(unique(t), 1)
	src.Queue.MaxLength = 1
	declare(t, d, src)
	publish(t, d, mandatory(src.Name), "a")
	wantErr(t, "who has declared it", d.Publish(soon(t), mandatory(src.Name), msg("b")), adapters.ErrNacked)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := other.Publish(soon(t), mandatory(src.Name), msg(fmt.Sprint(i))); !errors.Is(err, adapters.ErrNacked) {
				t.Errorf("who has not: %v", err)
			}
		})
	}
	all.Wait()
	for range 20 {
		start := time.Now()
		wantErr(t, "who knows", other.Publish(soon(t), mandatory(src.Name), msg("c")), adapters.ErrNacked)
		if took := time.Since(start); took > nackRetryDelays[0]*10 {
			t.Logf("took %v", took) // as on a busy machine; were it asked again, it were all pauses each time
		}
	}
	if m := receiveN(t, subscribe(t, d, src), 1)[0]; m.Message.UUID != "a" {
		t.Errorf("got %q", m.Message.UUID)
	}
	if n := other.Resent(); n != 0 {
		t.Errorf("%d copies are counted of what was for a queue", n)
	}
}

// TestFullGroup: a group whose queue is full fails the publishers to its exchange, in the end, and
// other groups get copies of one message only while that is found out.
func TestFullGroup(t *testing.T) {
	d := connect(t)
	x := adapters.Endpoint{Kind: adapters.Fanout, Name: unique(t)}
	full := adapters.Source{Endpoint: x, Group: "full", Prefetch: 1, Queue: adapters.QueueSpec{MaxLength: 1}}
	declare(t, d, full)
	other := subscribe(t, d, adapters.Source{Endpoint: x, Group: "other", Prefetch: 1000})
	to := adapters.Publication{To: x}
	publish(t, d, to, "first")
	var all sync.WaitGroup
	const publishers = 50
	for i := range publishers {
		all.Go(func() {
			if err := d.Publish(soon(t), to, msg(fmt.Sprint(i))); err == nil {
				t.Error("taken by a full group")
			}
		})
	}
	all.Wait()
	again := d.Resent()
	if again > uint64(len(nackRetryDelays)) {
		t.Errorf("%d copies, to find out that one queue is full", again)
	}
	wantErr(t, "later", d.Publish(soon(t), to, msg("last")), adapters.ErrNacked)
	got := receiveN(t, other, 1+publishers+int(again)+1)
	marked := 0
	for _, m := range got {
		if m.Redelivered {
			marked++
		}
	}
	if marked != int(again) {
		t.Errorf("%d are marked, %d were sent again", marked, again)
	}
}

// TestInsistingEnds with ctx, and says what is certain: of a queue that it was refused, of an
// exchange that others may have it.
func TestInsistingEnds(t *testing.T) {
	d := connect(t)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, c := range []struct {
		to           adapters.Endpoint
		failed, want error
	}{
		{queueAt("q"), adapters.ErrNacked, adapters.ErrNacked},
		{queueAt("q"), errQueueGone, errQueueGone}, // which says more
		{adapters.Endpoint{Kind: adapters.Fanout, Name: "x"}, adapters.ErrNacked, adapters.ErrUnconfirmed},
	} {
		r, err := d.prepare(ctx, &adapters.Publication{To: c.to})
		if err != nil {
			t.Fatal(err)
		}
		o, err := d.newOutgoing(&r, msg("m"))
		if err != nil {
			t.Fatal(err)
		}
		err = d.sendAgain(ended, &o, c.failed)
		wantErr(t, c.to.String(), err, c.want)
		wantErr(t, c.to.String(), err, context.Canceled)
		if len(d.nackRetries.rounds)+len(d.nackRetries.futile) > 0 {
			t.Error("a trial is left")
		}
	}
}
