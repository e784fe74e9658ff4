package main

import (
	"context"
	"errors"

	"github.com/rabbitmq/amqp091-go"
)

var errNotConfirmed = errors.New("not confirmed")

// rawPublish publishes from one goroutine with deferred confirms, window of
// them under way at most.
func rawPublish(kind string, window, size int) Side {
	return func(_ context.Context, r *Run) error {
		conn, ch, err := dialRaw(r.URL)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := declareRaw(ch, r.Name, kind); err != nil {
			return err
		}
		if err := ch.Confirm(false); err != nil {
			return err
		}
		body := make([]byte, size)

		if err := r.Start(); err != nil {
			return err
		}
		flying := make([]*amqp091.DeferredConfirmation, window)
		for i := range r.Messages + window {
			if confirm := flying[i%window]; confirm != nil && !confirm.Wait() {
				return errNotConfirmed
			}
			flying[i%window] = nil
			if i < r.Messages {
				if flying[i%window], err = ch.PublishWithDeferredConfirm("", r.Name, false, false, rawMessage(body, number(i))); err != nil {
					return err
				}
			}
		}
		r.Stop()
		_, err = ch.QueueDelete(r.Name, false, false, false)
		return err
	}
}
