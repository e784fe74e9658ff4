package patterns

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Schedule says when something is due. [Every] is one, package patterns/cron makes others of cron
// expressions, and so does github.com/robfig/cron/v3.
type Schedule interface {
	// Next returns the first time after t at which it is due, or the zero time if there is none any
	// more. It is given times in UTC. What it returns may depend on t only: all processes have to
	// agree on it. It is called by one goroutine of each [Scheduled] at a time.
	Next(t time.Time) time.Time
}

// Every is due each time that a whole number of d has passed since the year 1, in UTC: for an hour
// on the hour, for 24 hours at midnight, for a week on Monday. So it is due at the same times in
// all processes, whenever they start. d is at least a second.
func Every(d time.Duration) Schedule { return every(d) }

type every time.Duration

func (e every) Next(t time.Time) time.Time {
	return t.Truncate(time.Duration(e)).Add(time.Duration(e))
}

// ScheduleOption is for [WorkQueue.Schedule].
type ScheduleOption interface{ applySchedule(*scheduleConfig) error }

type scheduleConfig struct {
	missed  int           // of those that were missed, how many are sent
	late    time.Duration // how late one is sent; 0 = however late
	publish []PublishOption
}

type scheduleOption func(*scheduleConfig) error

func (o scheduleOption) applySchedule(c *scheduleConfig) error { return o(c) }

// maxMissed bounds [RunMissed], whose runs are sent one after another.
const maxMissed = 1000

// RunMissed says how many runs are made up for that were missed, because no process had the
// schedule when they were due, or nothing could be sent: the last n, 1 without it, 1000 at most.
func RunMissed(n int) ScheduleOption {
	return scheduleOption(func(c *scheduleConfig) error {
		if n > maxMissed {
			return invalid("RunMissed(%d), at most %d are possible", n, maxMissed)
		}
		return atLeast1("RunMissed", n, &c.missed)
	})
}

// SkipMissed leaves out what could not be sent until late after it was due. Without it a run is
// made up for however late it is. A process that dies while it sends makes a run late by what the
// broker takes to notice: give it some minutes.
func SkipMissed(late time.Duration) ScheduleOption {
	return scheduleOption(func(c *scheduleConfig) error { return positive("SkipMissed", late, &c.late) })
}

// SendWith gives the messages of a schedule options, as a [TTL] or a [Header]. A [MessageID] they
// have already.
func SendWith(opts ...PublishOption) ScheduleOption {
	return scheduleOption(func(c *scheduleConfig) error {
		if c.publish != nil {
			return givenTwice("SendWith")
		}
		c.publish = append([]PublishOption{}, opts...)
		return nil
	})
}

// scheduleInfix is between the names of a queue and of a schedule in that of the schedule's own
// queue.
const scheduleInfix = ".schedule."

// Schedule sends a message to the queue each time that s is due, with the value that at returns for
// that time (in UTC). Every process that may send it calls Schedule with the same name: one of them
// sends each message, and the others do when that one is gone. When it returns, the broker knows of
// the schedule: what is due from then on is sent, if need be later, by a process that has the
// schedule then (see [RunMissed]). It lasts until ctx ends, it is stopped, or the bus is closed.
//
// A message is sent twice where a process or a connection is lost in the middle of it, or the
// clocks of two processes are more than an hour apart. Both copies have the same id, "NAME@TIME"
// with the time as RFC 3339, so middleware.Once handles it once.
//
// A message that cannot be sent is tried again until it can. Only one that can never be, because at
// panics or its value does not encode or is too large, is left out, which is logged as an error;
// as is, as a warning, what was missed and not made up for.
//
// How far the schedule has come is kept in a queue QUEUE.schedule.NAME, which the adapter must be
// able to Get from, and not in the program: to change when s is due, deploy that.
// [WorkQueue.Unschedule] forgets it.
func (q *WorkQueue[T]) Schedule(ctx context.Context, name string, s Schedule, at func(time.Time) T, opts ...ScheduleOption) (*Scheduled, error) {
	r, err := q.schedule(ctx, name, s, at, opts)
	if err == nil {
		err = r.begin(ctx)
	}
	if err != nil {
		return nil, q.scheduleError(name, err)
	}
	return r, nil
}

func (q *WorkQueue[T]) scheduleError(name string, err error) error {
	return q.opError(fmt.Sprintf("schedule %q of", clip(name, 64)), err)
}

func (q *WorkQueue[T]) schedule(ctx context.Context, name string, s Schedule, at func(time.Time) T, opts []ScheduleOption) (*Scheduled, error) {
	if err := q.ready(ctx); err != nil {
		return nil, err
	}
	var cfg scheduleConfig
	if err := apply(opts, func(o ScheduleOption) error { return o.applySchedule(&cfg) }); err != nil {
		return nil, err
	}
	if _, err := q.configure(ctx, "", append([]PublishOption{MessageID("of its own")}, cfg.publish...)); err != nil {
		return nil, err
	}
	if s == nil || at == nil {
		return nil, invalid("nil schedule, or nil function")
	}
	if e, ok := s.(every); ok && time.Duration(e) < time.Second {
		return nil, invalid("Every(%v), which must be at least a second", time.Duration(e))
	}
	if storeOf(ctx) != nil {
		return nil, invalid("a schedule in the ctx of a Store: what is due later has no transaction")
	}
	r := &Scheduled{
		bus: q.bus, name: name, missed: max(cfg.missed, 1), late: cfg.late,
		source:  adapters.Source{Endpoint: scheduleQueue(q.Name(), name)},
		opError: func(err error) error { return q.scheduleError(name, err) },
		log:     q.bus.log.With("queue", q.Name(), "schedule", name),
		done:    make(chan struct{}),
	}
	r.schedule = careful{s, r}
	if name == "" || len(r.id(farFuture)) > adapters.MaxNameBytes {
		return nil, invalid("name of %d bytes", len(name))
	}
	if err := r.source.Validate(); err != nil {
		return nil, err
	}
	var ok bool
	if r.getter, ok = q.bus.driver.(adapters.Getter); !ok || !q.bus.features.Ability.Has(adapters.CanGet) {
		return nil, &adapters.UnsupportedError{Adapter: q.bus.features.Adapter, Missing: adapters.CanGet}
	}
	r.send = func(ctx context.Context, due time.Time) error {
		v, err := protectAt(at, due)
		if err != nil {
			return err
		}
		s, err := q.senderOf(v)
		if err != nil {
			return q.publishError(err)
		}
		return s.send(ctx, "", append([]PublishOption{MessageID(r.id(due))}, cfg.publish...), v)
	}
	return r, nil
}

// farFuture has the longest id.
var farFuture = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)

func scheduleQueue(queue, name string) adapters.Endpoint {
	return adapters.Endpoint{Kind: adapters.Queue, Name: queue + scheduleInfix + name}
}

// protectAt makes an error of a panic.
func protectAt[T any](at func(time.Time) T, due time.Time) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return at(due), nil
}

// Unschedule forgets how far a schedule has come, after the last process that had it has ended: one
// that has it begins anew. A name that is used again later would otherwise make up for what was
// missed meanwhile. It is no error if there is no such schedule. It deletes the schedule's queue,
// which not every adapter can (adapters.CanDelete).
func (q *WorkQueue[T]) Unschedule(ctx context.Context, name string) error {
	return q.scheduleError(name, q.unschedule(ctx, name))
}

func (q *WorkQueue[T]) unschedule(ctx context.Context, name string) error {
	if err := q.ready(ctx); err != nil {
		return err
	}
	if err := q.bus.features.Require(adapters.CanDelete); err != nil {
		return err
	}
	inspector, ok := q.bus.driver.(adapters.Inspector)
	if !ok {
		return &adapters.UnsupportedError{Adapter: q.bus.features.Adapter, Missing: adapters.CanDelete}
	}
	err := inspector.Delete(ctx, scheduleQueue(q.Name(), name).Name, 0)
	if errors.Is(err, adapters.ErrNotFound) {
		return nil
	}
	return err
}
