package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/patterns"
)

// service is one of those that take their own copy of every order.
type service struct {
	wire
	name    string
	takes   time.Duration
	handled atomic.Int64
}

func (s *service) handle(ctx context.Context, p Placed) error {
	begun := time.Now()
	if err := work(ctx, s.takes); err != nil {
		return err // not done, so the order comes again
	}
	err := s.done.Publish(ctx, Done{
		Run: p.Run, Service: s.name, OrderID: p.Order.ID,
		Worked: time.Since(begun), After: time.Since(p.At),
	})
	if err == nil {
		s.handled.Add(1)
	}
	return err
}

// start subscribes. The group is what makes the copy the service's own; its
// members compete, in this process (Workers) and in others of the same name.
func (s *service) start(ctx context.Context) (*patterns.Subscription, error) {
	return s.placed.Subscribe(ctx, s.handle, patterns.Group(s.name), patterns.Workers(60))
}

// serveAlone is a process with one service, until ctx ends.
func serveAlone(ctx context.Context, w wire, out *screen, opts options) error {
	s := &service{wire: w, name: opts.Role, takes: opts.scaled(serviceTime)}
	sub, err := s.start(ctx)
	if err != nil {
		return err
	}
	out.say("%s takes orders. Ctrl-C ends it; what it has not done waits for its return.", s.name)
	stop := out.follow(func() string { return fmt.Sprintf("%s %d", s.name, s.handled.Load()) })
	err = sub.Wait()
	stop()
	out.say("takeout: %s=%d", s.name, s.handled.Load())
	return err
}
