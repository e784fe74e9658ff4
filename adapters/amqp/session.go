package amqp

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// session is one life of a link. What was delivered in it can be settled in it
// only.
type session struct {
	link       *link
	gen        uint64
	address    string
	broker     release
	brokerName string
	conn       *amqp091.Connection
	wire       *wire
	frames     *frames
	since      time.Time
	control    chan struct{} // held while a channel is open that is only for a moment
	large      chan struct{} // held while a large message is sent

	blocks chan amqp091.Blocking // listened to before anything is published
	closes chan *amqp091.Error

	ctx    context.Context // ends with the session
	cancel context.CancelCauseFunc

	largest  atomic.Int64 // bytes of a payload that the broker has taken
	refusals refusals

	mu        sync.Mutex
	unblocked chan struct{} // closed when the broker takes publishes again; nil if it does
	reason    string        // why it does not
	known     map[adapters.Endpoint]struct{}
	foreign   map[adapters.Endpoint]struct{} // exchanges that were declared otherwise
	withheld  map[string]error               // why exchanges were not declared that may be there
	down      map[string]int                 // queues that were said to be down, and how often
	otherwise map[string]struct{}            // queues with priorities that are of the other type
	gives     map[string]struct{}            // queues of others that give single messages
	rungs     int                            // of the ladder, that exist
	built     time.Time                      // when the ladder was begun, or begun anew
	policed   bool                           // it is known that no policy leads what waits astray
	lanes     map[string]*lane
	laneList  []*lane
	channels  int // that there may be
	maxLanes  int
	replying  int // channels on which replies come
}

const (
	maxKnown = 4096 // exchanges remembered as declared
	lasting  = 10 * time.Second
)

func newSession(l *link, gen uint64, address string, conn *amqp091.Connection, f *frames) *session {
	channels := l.channels(int(conn.Config.ChannelMax))
	s := &session{
		link: l, gen: gen, address: address, conn: conn, wire: f.wire, frames: f, since: time.Now(),
		control:  make(chan struct{}, controls(channels)),
		large:    make(chan struct{}, 1),
		channels: channels,
		maxLanes: lanesOf(channels),
		known:    make(map[adapters.Endpoint]struct{}),
		foreign:  make(map[adapters.Endpoint]struct{}),
		withheld: make(map[string]error),
		lanes:    make(map[string]*lane),

		down:      make(map[string]int),
		gives:     make(map[string]struct{}),
		otherwise: make(map[string]struct{}),
	}
	s.brokerName, s.broker = brokerOf(conn.Properties)
	l.d.channels.Store(int32(conn.Config.ChannelMax))
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.blocks = conn.NotifyBlocked(make(chan amqp091.Blocking, 8))
	s.closes = conn.NotifyClose(make(chan *amqp091.Error, 1))
	return s
}

// user is who the session logged in as, or "" if a certificate says that.
func (s *session) user() string {
	if p, ok := s.conn.Config.SASL[0].(*plain); ok {
		return p.Username
	}
	return ""
}

// count notes how many channels there may be, if the session ended because there was one too many. An
// operator may have limited those of a user, and the broker then closes the connection.
func (s *session) count() {
	if s.link != s.link.d.publishing {
		return
	}
	d, c := s.link.d, s.frames.blames()
	switch {
	case c != nil && isLimit(c.err) && strings.Contains(c.err.Reason, "channels"):
		s.mu.Lock()
		open := len(s.laneList) + len(s.control) + s.replying
		s.mu.Unlock()
		d.mostChannels.Store(int32(max(1, open-1)))
	case s.lasted():
		d.mostChannels.Store(0)
	}
}

// channels is how many a session uses, where the broker allows so many on a connection.
func (l *link) channels(allowed int) int {
	if most := int(l.d.mostChannels.Load()); l == l.d.publishing && most > 0 {
		return min(allowed, most)
	}
	return allowed
}

// controls is how many channels, of so many, are kept free for what is done in
// passing.
func controls(channels int) int { return max(1, min(8, channels/4)) }

// lasted tells a session that worked from one that is lost again at once, as
// when the broker throws everybody out.
func (s *session) lasted() bool { return time.Since(s.since) > lasting }

// alive reports whether what failed in the session failed for another reason than
// that the session is over, or about to be.
func (s *session) alive() bool {
	return s.ctx.Err() == nil && !s.conn.IsClosed() && s.wire.alive() && s.frames.alive()
}

// watch returns once the session is over, and why. It ends the session when the
// driver is closed.
func (s *session) watch() error {
	blocks := s.blocks
	closing, hard := s.link.ctx.Done(), s.link.d.hard.Done()
	var goodbye sync.WaitGroup
	for {
		select {
		case b, ok := <-blocks:
			if !ok {
				blocks = nil
				continue
			}
			s.setBlocked(b.Active, b.Reason)
		case <-closing:
			closing = nil
			goodbye.Go(func() { _ = s.conn.Close() }) // after all that was written before
		case <-hard:
			hard = nil
			s.wire.fail(adapters.ErrClosed)
		case e := <-s.closes:
			lost := s.why(e)
			s.count()
			s.cancel(lost)
			_ = s.wire.Close()
			<-s.wire.done
			s.frames.end(lost) // if the goroutine that reads has not come to that: nobody is called back after Close
			goodbye.Wait()
			return lost
		}
	}
}

// why is the cause with which the session ends.
func (s *session) why(e *amqp091.Error) error {
	switch {
	case s.link.d.ctx.Err() != nil:
		return adapters.ErrClosed
	case e == nil:
		return adapters.ErrSessionLost
	}
	return fmt.Errorf("amqp: %w: %w", adapters.ErrSessionLost, e)
}

func (s *session) setBlocked(blocked bool, reason string) {
	s.wire.setBlocked(blocked)
	s.mu.Lock()
	was := s.unblocked != nil
	switch {
	case blocked && !was:
		s.unblocked, s.reason = make(chan struct{}), reason
	case !blocked && was:
		close(s.unblocked)
		s.unblocked, s.reason = nil, ""
	}
	s.mu.Unlock()
	if blocked == was {
		return
	}
	e := Event{Kind: Unblocked, Link: s.link.role, Address: s.address, Generation: s.gen}
	if blocked {
		e.Kind, e.Err = Blocked, fmt.Errorf("amqp: %w: blocked by the broker: %s", adapters.ErrUnavailable, reason)
	}
	s.link.d.event(e)
	s.link.d.cfg.Logger.Warn("motif: "+e.Kind.String()+" by the broker", "link", s.link.role, "reason", reason)
}

// blocked returns a channel that is closed when the broker takes publishes
// again, or nil if it does.
func (s *session) blocked() (<-chan struct{}, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unblocked, s.reason
}

// briefly runs f with a channel of its own, for what may cost the channel.
func (s *session) briefly(ctx context.Context, f func(*amqp091.Channel) error) error {
	select {
	case s.control <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	_, err := await(ctx, s.link.d, func() (struct{}, error) {
		defer func() { <-s.control }()
		if s.channels == 1 {
			giveBack, err := s.lend(ctx)
			if err != nil {
				return struct{}{}, err
			}
			defer giveBack()
		}
		ch, err := s.conn.Channel()
		if err != nil {
			return struct{}{}, err
		}
		defer func() { _ = ch.Close() }() // f may have cost it
		return struct{}{}, f(ch)
	}, func(struct{}) {})
	return err
}
