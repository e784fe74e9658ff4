package kit_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// An adapter whose client publishes one message at a time.
func ExamplePublishEach() {
	store := func(m *message.Message) error {
		if len(m.Payload) > 5 {
			return adapters.ErrTooLarge
		}
		return nil
	}
	msgs := []*message.Message{message.NewMessage("1", []byte("short")), message.NewMessage("2", []byte("too long"))}
	err := kit.PublishEach(msgs, func(m *message.Message) error {
		if err := adapters.ValidateMessage(m); err != nil {
			return err
		}
		return store(m)
	})
	fmt.Println(err)
	// Output: message 1 ("2"): motif: too large
}

// An adapter whose client confirms messages later, in any order.
func ExampleBatch() {
	publish := func(m *message.Message, confirm func(error)) {
		go func() {
			if m.UUID == "2" {
				confirm(adapters.ErrNacked)
			} else {
				confirm(nil)
			}
		}()
	}
	msgs := []*message.Message{message.NewMessage("1", nil), message.NewMessage("2", nil)}
	batch := kit.NewBatch(msgs)
	for i, m := range msgs {
		publish(m, func(err error) { batch.Resolve(i, err) })
	}
	fmt.Println(batch.Wait(context.Background()))
	// Output: message 1 ("2"): motif: refused by the broker
}

// An adapter whose client connects without a context.
func ExampleCall() {
	tasks := kit.NewTasks()
	answer := make(chan struct{}) // of a server that is slow
	connect := func() (string, error) {
		<-answer
		return "connection", nil
	}
	hangUp := func(connection string) { fmt.Println("hung up the", connection) }

	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := kit.Call(ctx, tasks, connect, hangUp)
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	close(answer)

	tasks.Close() // as the driver's Close does
	tasks.Wait()
	// Output:
	// true
	// hung up the connection
}

func ExampleBackoff() {
	backoff := kit.Backoff{Min: time.Millisecond, Max: 4 * time.Millisecond}
	connect := func(attempt int) error {
		if attempt < 3 {
			return adapters.ErrUnavailable
		}
		return nil
	}
	attempt := 1
	for ; connect(attempt) != nil; attempt++ {
		time.Sleep(backoff.Next()) // an adapter waits for its ctx as well
	}
	backoff.Reset()
	fmt.Println("connected with attempt", attempt)
	// Output: connected with attempt 3
}

// An adapter for a broker without bindings: the publisher looks where its message goes.
func ExampleRoutes() {
	ctx, tasks := context.Background(), kit.NewTasks()
	routes := kit.NewRoutes(newRecords(), tasks) // at the broker, for all programs

	news := adapters.Endpoint{Kind: adapters.Topic, Name: "news"}
	if err := routes.Bind(ctx, news, kit.Bound{Queue: "news:weather"}, "*.rain", "*.sun"); err != nil { // in Subscribe
		fmt.Println(err)
	}
	for _, key := range []string{"madrid.sun", "london.bus"} { // in Publish
		queues, err := routes.Route(ctx, news, key)
		fmt.Println(key, queues, err) // none, and Mandatory: adapters.ErrUnroutable
	}
	tasks.Close()
	tasks.Wait()
	// Output:
	// madrid.sun [{news:weather }] <nil>
	// london.bus [] <nil>
}
