package main

import (
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
)

// chain is middleware as programs have it: watermill's own, and some that count
// and time.
func chain(length int) []message.HandlerMiddleware {
	var handled, failed, micros atomic.Int64
	kinds := []message.HandlerMiddleware{
		middleware.Recoverer,
		middleware.CorrelationID,
		func(next message.HandlerFunc) message.HandlerFunc {
			return func(m *message.Message) ([]*message.Message, error) {
				start := time.Now()
				defer func() { micros.Add(time.Since(start).Microseconds()) }()
				return next(m)
			}
		},
		func(next message.HandlerFunc) message.HandlerFunc {
			return func(m *message.Message) ([]*message.Message, error) {
				produced, err := next(m)
				if handled.Add(1); err != nil {
					failed.Add(1)
				}
				return produced, err
			}
		},
		func(next message.HandlerFunc) message.HandlerFunc {
			return func(m *message.Message) ([]*message.Message, error) {
				if m.Metadata.Get("tenant") == "nobody" {
					return nil, nil
				}
				return next(m)
			}
		},
	}
	all := make([]message.HandlerMiddleware, length)
	for i := range all {
		all[i] = kinds[i%len(kinds)]
	}
	return all
}
