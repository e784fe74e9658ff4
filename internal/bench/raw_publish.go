package main

import (
	"context"
	"errors"

	"github.com/rabbitmq/amqp091-go"
)

var errNotConfirmed = errors.New("not confirmed")

// rawPublish publishes from one goroutine with deferred confirms, window
// messages under way at most.
func rawPublish(kind string, window, size int) Side {
	return withRawQueue(kind, func(r *Run, ch *amqp091.Channel) error {
		body := make([]byte, size)
		if err := r.Start(); err != nil {
			return err
		}
		err := rawPipelined(r.Messages, window, func(i int) (*amqp091.DeferredConfirmation, error) {
			return ch.PublishWithDeferredConfirm("", r.Name, false, false, rawMessage(body, number(i)))
		})
		r.Stop()
		return err
	})
}

// rawPipelined publishes n messages and waits for all confirms, window messages
// under way at most.
func rawPipelined(n, window int, publish func(i int) (*amqp091.DeferredConfirmation, error)) (err error) {
	flying := make([]*amqp091.DeferredConfirmation, window)
	for i := range n + window {
		if confirm := flying[i%window]; confirm != nil && !confirm.Wait() {
			return errNotConfirmed
		}
		flying[i%window] = nil
		if i < n {
			if flying[i%window], err = publish(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// rawSend publishes from several goroutines over one channel, each waiting for
// its confirm before it publishes the next.
func rawSend(senders int) Side {
	return withRawQueue(quorum, func(r *Run, ch *amqp091.Channel) error {
		body := make([]byte, small)
		if err := r.Start(); err != nil {
			return err
		}
		err := inParallel(senders, r, func(i int) error {
			confirm, err := ch.PublishWithDeferredConfirm("", r.Name, false, false, rawMessage(body, number(i)))
			if err == nil && !confirm.Wait() {
				err = errNotConfirmed
			}
			return err
		})
		r.Stop()
		return err
	})
}

// rawBatch publishes batches, and waits for all of one before the next.
func rawBatch(size int) Side {
	return withRawQueue(quorum, func(r *Run, ch *amqp091.Channel) error {
		body := make([]byte, small)
		if err := r.Start(); err != nil {
			return err
		}
		confirms := make([]*amqp091.DeferredConfirmation, 0, size)
		for sent := 0; sent < r.Messages; sent += size {
			confirms = confirms[:0]
			for i := range min(size, r.Messages-sent) {
				confirm, err := ch.PublishWithDeferredConfirm("", r.Name, false, false, rawMessage(body, number(sent+i)))
				if err != nil {
					return err
				}
				confirms = append(confirms, confirm)
			}
			for _, confirm := range confirms {
				if !confirm.Wait() {
					return errNotConfirmed
				}
			}
		}
		r.Stop()
		return nil
	})
}

// withRawQueue has a queue and a channel in confirm mode around what is
// measured.
func withRawQueue(kind string, do func(*Run, *amqp091.Channel) error) Side {
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
		if err := do(r, ch); err != nil {
			return err
		}
		_, err = ch.QueueDelete(r.Name, false, false, false)
		return err
	}
}
