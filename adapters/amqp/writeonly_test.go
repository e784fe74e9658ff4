package amqp_test

import (
	"errors"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// TestWriteOnly: the right to write is enough to publish to what is there. What is missing, and may
// not be declared, is an error that says both.
func TestWriteOnly(t *testing.T) {
	v, user, password := amqptest.Shared(t), "writer", "only"
	if err := v.AddUser(t.Context(), user, password); err != nil {
		t.Fatal(err)
	}
	defer v.DeleteUser(t.Context(), user)
	if err := v.SetPermissions(t.Context(), user, "^$", `^(amq\.default|news.*|motif\.delay\..*)$`, "^$"); err != nil {
		t.Fatal(err)
	}
	admin, writer := busAt(t, v.URL), busAt(t, v.URLFor(user, password))
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	refused := func(what string, err error, want ...error) {
		t.Helper()
		for _, want := range want {
			if !errors.Is(err, want) || errors.Is(err, adapters.ErrUnconfirmed) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
	}
	jobs, news := patterns.NewWorkQueue[string](admin, "jobs"), patterns.NewPubSub[string](admin, "news")
	must("Send", jobs.Send(t.Context(), "first"))
	must("Declare", news.Declare(t.Context(), patterns.Group("g")))

	mine, itsNews := patterns.NewWorkQueue[string](writer, "jobs"), patterns.NewPubSub[string](writer, "news")
	refused("Send with a delay, where nobody has made ready for it", mine.Send(t.Context(), "x", patterns.Delay(time.Second)), adapters.ErrAccess)
	must("Send with a delay", jobs.Send(t.Context(), "early", patterns.Delay(time.Second)))
	must("Publish with a delay", news.Publish(t.Context(), "early", patterns.Delay(time.Second)))
	for range 2 {
		must("Send", mine.Send(t.Context(), "mine"))
		must("SendBatch", mine.SendBatch(t.Context(), []string{"a", "b"}))
		receipt, err := mine.SendAsync(t.Context(), "async")
		must("SendAsync", err)
		must("SendAsync", receipt.Wait(t.Context()))
		must("Send with a delay", mine.Send(t.Context(), "late", patterns.Delay(100*time.Millisecond)))
		must("Publish", itsNews.Publish(t.Context(), "news"))
		must("Publish with a delay", itsNews.Publish(t.Context(), "late", patterns.Delay(100*time.Millisecond)))
		refused("Send to what is not there", patterns.NewWorkQueue[string](writer, "missing").Send(t.Context(), "x"), adapters.ErrUnroutable, adapters.ErrAccess)
		refused("Publish to what is not there", patterns.NewPubSub[string](writer, "news.not").Publish(t.Context(), "x"), adapters.ErrAccess)
		refused("Publish without the right", patterns.NewPubSub[string](writer, "secret").Publish(t.Context(), "x"), adapters.ErrAccess)
	}
	for range 1 + 2*5 + 1 {
		for {
			m, err := jobs.TryGet(t.Context())
			if errors.Is(err, adapters.ErrEmpty) && t.Context().Err() == nil {
				continue // it waits for its delay
			}
			must("TryGet", err)
			must("Ack", m.Ack(t.Context()))
			break
		}
	}
}
