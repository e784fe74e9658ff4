package patterns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Scheduled is this process's part in a schedule. All methods are safe for concurrent use.
//
// How it works: a queue of the schedule's own holds one small message, the token, which says until
// when all that was due has been sent. It waits there, in nobody's hand. When something is due,
// each process tries to take it. The one that gets it sends what is due, confirmed, then a new
// token, confirmed, and then acknowledges the old one. The others find no token, or one that says
// that nothing is due any more, which they put back.
//
// So no clock and no process is the leader, and nothing is asked for in between. What is lost in
// the middle leaves the old token, which sends the same message again, or both tokens. Whoever
// takes tokens takes all there are, and goes on with the one that knows most. A token that is gone
// altogether is made again after a minute, by any process that remembers one.
type Scheduled struct {
	bus      *Bus
	name     string
	schedule Schedule
	missed   int
	late     time.Duration
	source   adapters.Source // of tokens
	getter   adapters.Getter
	send     func(ctx context.Context, due time.Time) error
	opError  func(error) error
	log      *slog.Logger

	known token         // the best one that was seen, or sent
	since time.Time     // when no token was found first; zero: one was found the last time
	took  time.Duration // the last turn with a token

	stopping  context.Context
	beginStop context.CancelFunc
	abort     context.CancelFunc // ends what is under way
	done      chan struct{}
	cause     error // read after done
}

const (
	// tokenPatience is how long a token may be missing before it is made again: longer than a turn,
	// and than a broker takes to notice that its holder has died.
	tokenPatience = time.Minute

	// clockStep is how long to sleep at most without a look at the clock, which somebody may set.
	clockStep = time.Minute

	// turnSpread is how much later than it is due a process may try to take the token. Those that
	// try in the same moment may each find one, where there are two, and would forever. Where a
	// turn takes long it is a few turns, or they would meet again and again.
	turnSpread     = 100 * time.Millisecond
	mostTurnSpread = time.Second

	turnTime = 30 * time.Second // for sending what is due, and a token
)

func (s *Scheduled) id(due time.Time) string {
	return s.name + "@" + due.UTC().Format(time.RFC3339Nano)
}

// begin makes sure that there is a token, and starts the goroutine.
func (s *Scheduled) begin(ctx context.Context) error {
	now := wallClock()
	if next := s.schedule.Next(now); !next.After(now) {
		return invalid("a schedule that is never due, or was due at %v already, which is not after %v", next, now)
	}
	s.known = token{Done: now, Fresh: true}
	if err := s.ensureToken(ctx); err != nil {
		return err
	}
	var working context.Context
	working, s.abort = context.WithCancel(context.WithoutCancel(ctx))
	s.stopping, s.beginStop = context.WithCancel(ctx)
	if err := s.bus.addScheduled(s); err != nil {
		s.end()
		return err
	}
	go func() {
		if s.cause = s.run(working); s.cause != nil {
			s.log.Error("motif: a schedule has ended", "error", s.cause)
		}
		s.end()
		s.bus.removeScheduled(s)
		close(s.done)
	}()
	return nil
}

// end releases what there is to release.
func (s *Scheduled) end() {
	s.beginStop()
	s.abort()
}

// ensureToken sends a first token, unless there is one.
func (s *Scheduled) ensureToken(ctx context.Context) error {
	held, err := s.take(ctx)
	ctx, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	if err == nil && len(held) == 0 {
		return s.put(ctx, s.known)
	}
	return errors.Join(err, settleAll(ctx, held, adapters.Requeue))
}

// Done is closed when the schedule is no longer this process's.
func (s *Scheduled) Done() <-chan struct{} { return s.done }

// Wait returns when the schedule is no longer this process's: nil if it was stopped, or will never
// be due again.
func (s *Scheduled) Wait() error {
	<-s.done
	return s.opError(s.cause)
}

// Stop ends this process's part, after a message that is being sent, and waits as Wait does. If ctx
// ends before, what is under way is given up.
func (s *Scheduled) Stop(ctx context.Context) error {
	s.beginStop()
	select {
	case <-s.done:
	case <-ctx.Done():
		s.abort()
	}
	return s.Wait()
}

// run takes part until it is stopped.
func (s *Scheduled) run(ctx context.Context) error {
	failed := time.Duration(0)
	// Something may have been missed. Others that begin now have put tokens there, too, which
	// whoever comes first makes one of.
	for next := wallClock().Add(rand.N(time.Second)); ; {
		if next.IsZero() {
			return nil
		}
		if next.After(wallClock()) {
			next = next.Add(rand.N(max(turnSpread, min(5*s.took, mostTurnSpread))))
		}
		if !s.sleepUntil(next) {
			return nil
		}
		var err error
		next, err = s.turn(ctx)
		switch {
		case err == nil:
			failed = 0
		case errors.Is(err, adapters.ErrClosed) || s.stopping.Err() != nil:
			return nil
		case errors.Is(err, errBadSchedule):
			return err
		default:
			failed = min(max(2*failed, resendPause), time.Minute)
			s.log.Warn("motif: a schedule is held up, trying again", "error", err, "in", failed)
			next = wallClock().Add(failed)
		}
	}
}

// sleepUntil reports whether it is due, and not stopped.
func (s *Scheduled) sleepUntil(due time.Time) bool {
	for {
		wait := min(due.Sub(wallClock()), clockStep)
		if wait <= 0 || sleep(s.stopping, wait) != nil {
			return s.stopping.Err() == nil
		}
	}
}

// turn sends the first message that is due, if it gets the token, and returns when to try for the
// next.
func (s *Scheduled) turn(ctx context.Context) (next time.Time, err error) {
	begun := time.Now()
	held, err := s.take(s.stopping)
	ctx, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	outcome := adapters.Requeue
	defer func() { err = errors.Join(err, settleAll(ctx, held, outcome)) }()
	if err != nil {
		return next, err
	}
	now := wallClock()
	if len(held) == 0 && !s.isGone(now) {
		return now.Add(time.Second/4 + rand.N(time.Second/2)), nil
	}
	s.since = time.Time{}
	defer func() { s.took = time.Since(begun) }()
	best, isBest := s.best(held, now)
	after, due, err := s.plan(best, now)
	if err != nil {
		return next, err
	}
	s.known = best
	if !due.IsZero() {
		if err := s.sendDue(ctx, due); err != nil {
			return next, err
		}
	}
	s.known = after
	if after != best || !isBest {
		if err := s.put(ctx, after); err != nil {
			return next, err
		}
		outcome = adapters.Ack
	}
	return s.schedule.Next(after.Done), nil
}

// isGone reports whether the token has been missing for so long that nobody has it.
func (s *Scheduled) isGone(now time.Time) bool {
	if s.since.IsZero() {
		s.since = now
	}
	if now.Sub(s.since) < tokenPatience {
		return false
	}
	s.log.Warn("motif: how far a schedule has come was lost from its queue, and is restored", "until", s.known.Done)
	return true
}

// plan says what becomes of what is due: what is to be sent, if anything, and the token after that.
func (s *Scheduled) plan(best token, now time.Time) (after token, due time.Time, err error) {
	all, missed, err := dueTimes(s.schedule, best.Done, now, s.missed)
	if err != nil || len(all) == 0 {
		return best, due, err
	}
	for _, t := range all {
		if s.late == 0 || now.Sub(t) < s.late {
			due = t
			break
		}
		missed++
	}
	if after = (token{Done: due}); due.IsZero() {
		after.Done = all[len(all)-1]
	}
	if missed > 0 {
		s.log.Warn("motif: runs of a schedule were missed, and are not made up for", "runs", missed, "after", best.Done, "until", after.Done)
	}
	return after, due, nil
}

// sendDue sends the message of one time, or says why that never can be done.
func (s *Scheduled) sendDue(ctx context.Context, due time.Time) error {
	err := s.send(ctx, due)
	if err == nil || !isA[*PanicError](err) && !errors.Is(err, ErrCodec) && !isMessageFault(err) {
		return err
	}
	text := err.Error()
	if errors.Is(err, ErrCodec) {
		text = ErrCodec.Error() // it may quote the value
	}
	s.log.Error("motif: a run of a schedule cannot be sent, and is left out", "id", s.id(due), "error", text)
	return nil
}

// wallClock is the time without the process's own clock, which does not go on while a machine
// sleeps.
func wallClock() time.Time { return time.Now().UTC().Round(0) }

// careful is a schedule whose Next may panic, which is to end the schedule and not the process.
type careful struct {
	Schedule
	s *Scheduled
}

// Next returns t itself after a panic, as no schedule may.
func (c careful) Next(t time.Time) (next time.Time) {
	defer func() {
		if v := recover(); v != nil {
			c.s.log.Error("motif: the Next of a schedule panicked", "error", &PanicError{Value: v, Stack: debug.Stack()})
			next = t
		}
	}()
	return c.Schedule.Next(t)
}

// errBadSchedule is for a Next that does not do what it has to.
var errBadSchedule = invalid("the schedule's Next returned a time that is not after the one it was given")

// maxSteps bounds how often a schedule is asked in a row.
const maxSteps = 10_000

// dueTimes returns the last n times that are after one and not after another, and how many it knows
// to come before them.
func dueTimes(s Schedule, after, until time.Time, n int) (last []time.Time, before int, err error) {
	last, before, all, err := walk(s, after, until, n)
	for back := time.Second; !all && err == nil; back *= 2 { // too many: look back from the end
		from := until.Add(-back)
		if !from.After(after) {
			break
		}
		var more int
		if last, more, _, err = walk(s, from, until, n); len(last) == n {
			return last, before + more, err
		}
	}
	return last, before, err
}

// walk is dueTimes as far as it gets. all reports whether that was to the end.
func walk(s Schedule, after, until time.Time, n int) (last []time.Time, before int, all bool, err error) {
	for range maxSteps {
		next := s.Next(after)
		switch {
		case next.IsZero() || next.After(until):
			return last, before, true, nil
		case !next.After(after):
			return nil, 0, false, fmt.Errorf("%w: %v", errBadSchedule, next)
		}
		if after = next; len(last) == n {
			last, before = last[1:], before+1
		}
		last = append(last, next.UTC())
	}
	return last, before, false, nil
}
