package jetstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// How long things take at most, where no ctx says so.
const (
	dialTimeout    = 5 * time.Second
	apiTimeout     = 10 * time.Second // an answer of the server's management
	confirmTimeout = 30 * time.Second
	writeTimeout   = 10 * time.Second // of a connection that takes no more bytes
	pingEvery      = 5 * time.Second  // a connection that answers neither of two is dead
)

// session is one connection, from its making to its end. It does not reconnect: what is bound to a
// session is over with it, and the driver makes another one.
type session struct {
	nc *nats.Conn
	js management

	ctx    context.Context // ends with the session: ErrSessionLost, or ErrClosed
	cancel context.CancelCauseFunc

	inbox string // where answers to publishes come, with a number at the end

	mu       sync.Mutex
	waiting  map[uint64]answer
	last     uint64
	attached map[*attachment]struct{} // those whose messages' context ends with the session
}

// answer is what waits for one.
type answer struct {
	subject string    // of what was asked
	since   time.Time // zero: it is not waited for here, see refusable
	take    func(*nats.Msg, error)
}

func anyAnswer(answer) bool { return true }

// dial makes a session. What is lost with the connection is told to lost.
func (d *Driver) dial(ctx context.Context) (*session, error) {
	s := &session{waiting: map[uint64]answer{}, attached: map[*attachment]struct{}{}, inbox: newInbox() + "."}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	by := &dialer{ctx: ctx}
	options := append([]nats.Option{
		nats.SetCustomDialer(by), nats.SkipHostLookup(),
		nats.NoReconnect(), nats.Timeout(dialTimeout), nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(writeTimeout), nats.Name("motif"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { d.refused(s, err) }),
		nats.ClosedHandler(func(nc *nats.Conn) { d.lost(s, nc.LastError()) }),
	}, d.config.options...)
	if d.local != nil {
		options = append(options, nats.InProcessServer(d.local))
	}
	nc, err := kit.Call(ctx, d.tasks, func() (*nats.Conn, error) {
		defer by.done()
		return nats.Connect(strings.Join(d.config.servers, ","), options...)
	}, func(nc *nats.Conn) { nc.Close() })
	if err != nil {
		s.end(adapters.ErrSessionLost)
		return nil, dialError(ctx, err)
	}
	s.nc = nc
	if err = cmp.Or(s.begin(ctx), d.answerHolders(s)); err != nil {
		nc.Close()
		return nil, d.tasks.Explain(ctx, err)
	}
	return s, nil
}

// oldest is the first version of the server that can delay messages.
var oldest = [2]int{2, 12}

func (s *session) begin(ctx context.Context) (err error) {
	if version := s.nc.ConnectedServerVersion(); isOlder(version) {
		return fmt.Errorf("jetstream: %w: the server is version %s, and has to be %d.%d or later", adapters.ErrUnavailable, version, oldest[0], oldest[1])
	}
	s.js.session = s
	if s.js.once, err = jetstream.New(s.nc, jetstream.WithDefaultTimeout(apiTimeout)); err != nil {
		return fmt.Errorf("jetstream: %w: %w", adapters.ErrUnavailable, err)
	}
	if err := s.js.available(ctx); err != nil {
		return s.apiError("looking for JetStream at the server", err)
	}
	_, err = s.nc.Subscribe(s.inbox+"*", func(m *nats.Msg) {
		n, _ := strconv.ParseUint(m.Subject[len(s.inbox):], 10, 64)
		s.resolve(n, m, nil)
	})
	if err != nil {
		return s.sendError(err)
	}
	return nil
}

func isOlder(version string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n != 2 {
		return false // a build of somebody's own
	}
	return major < oldest[0] || major == oldest[0] && minor < oldest[1]
}

func dialError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, adapters.ErrClosed):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("jetstream: connecting: %w: %w", adapters.ErrUnavailable, ctx.Err())
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("jetstream: connecting: %w: %w", adapters.ErrAccess, err)
	}
	return fmt.Errorf("jetstream: connecting: %w: %w", adapters.ErrUnavailable, err)
}

// end ends the contexts of the session and of the messages that it delivered.
func (s *session) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := range s.attached {
		at.end(why) // before anybody is told that a message is stale
	}
	s.attached = nil
	s.cancel(why)
}

// add has the context of an attachment's messages end with the session. It is no child of the
// session's, which would keep it for as long as the session lasts.
func (s *session) add(at *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attached == nil {
		at.end(context.Cause(s.ctx))
		return
	}
	s.attached[at] = struct{}{}
}

// drop undoes add.
func (s *session) drop(at *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.attached, at)
}

// stop ends the session.
func (s *session) stop(why error) {
	s.end(why)
	s.nc.Close()
	s.fail(fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, why), anyAnswer)
}

// request sends m, and passes what the server says to take, or an error. It returns an error if
// nothing was sent.
func (s *session) request(m *nats.Msg, take func(*nats.Msg, error)) error {
	s.mu.Lock()
	s.last++
	n := s.last
	s.waiting[n] = answer{m.Subject, time.Now(), take}
	s.mu.Unlock()
	m.Reply = s.inbox + strconv.FormatUint(n, 10)
	if err := s.nc.PublishMsg(m); err != nil {
		s.mu.Lock()
		_, mine := s.waiting[n]
		delete(s.waiting, n)
		s.mu.Unlock()
		if !mine {
			return nil // take was told that the session has ended
		}
		return s.sendError(err)
	}
	if s.ctx.Err() != nil { // maybe after stop has looked
		s.resolve(n, nil, fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, context.Cause(s.ctx)))
	}
	return nil
}

func (s *session) resolve(n uint64, m *nats.Msg, err error) {
	s.mu.Lock()
	a, found := s.waiting[n]
	delete(s.waiting, n)
	s.mu.Unlock()
	if found {
		a.take(m, err)
	}
}

// fail gives up on answers.
func (s *session) fail(why error, which func(answer) bool) {
	var failed []answer
	s.mu.Lock()
	for n, a := range s.waiting {
		if which(a) {
			failed = append(failed, a)
			delete(s.waiting, n)
		}
	}
	s.mu.Unlock()
	for _, a := range failed {
		a.take(nil, why)
	}
}

// ask is request that waits for the answer.
func (s *session) ask(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	return s.askMessage(ctx, &nats.Msg{Subject: subject, Data: data})
}

func (s *session) askMessage(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	type result struct {
		m   *nats.Msg
		err error
	}
	back := make(chan result, 1)
	if err := s.request(m, func(m *nats.Msg, err error) { back <- result{m, err} }); err != nil {
		return nil, err
	}
	select {
	case r := <-back:
		return r.m, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("jetstream: %w: %w", adapters.ErrUnavailable, ctx.Err())
	}
}

// flush waits until the server has read all that was sent.
func (s *session) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := s.nc.FlushWithContext(ctx); err != nil {
		return s.sendError(err)
	}
	return nil
}

// sendError is about what was not sent.
func (s *session) sendError(err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("jetstream: %w: %w", adapters.ErrTooLarge, err)
	}
	return fmt.Errorf("jetstream: %w: %w", adapters.ErrUnavailable, err)
}

// apiError is about what the server's management said.
func (s *session) apiError(what string, err error) error {
	if errors.Is(err, adapters.ErrAccess) {
		return fmt.Errorf("jetstream: %s: %w", what, err)
	}
	sentinel := adapters.ErrUnavailable
	if e := (*jetstream.APIError)(nil); errors.As(err, &e) {
		switch e.ErrorCode {
		case jetstream.JSErrCodeStreamNotFound, jetstream.JSErrCodeConsumerNotFound:
			sentinel = adapters.ErrNotFound
		case jetstream.JSErrCodeStreamNameInUse, jetstream.JSErrCodeConsumerExists, jetstream.JSErrCodeConsumerNameExists, jetstream.JSErrCodeConsumerAlreadyExists:
			sentinel = adapters.ErrMismatch
		}
	}
	return fmt.Errorf("jetstream: %s: %w: %w", what, sentinel, err)
}

// noResponders reports whether nobody listens to a subject that was published to.
func noResponders(m *nats.Msg) bool {
	return len(m.Data) == 0 && m.Header.Get("Status") == "503"
}

// isStored reports whether an answer says that a message was stored, and nothing else: most do, and
// are read without encoding/json.
func isStored(answer []byte) bool {
	return bytes.HasPrefix(answer, []byte(`{"stream":"MOTIF_`)) && !bytes.Contains(answer, []byte(`"error"`))
}

// apiAnswer decodes the answer to a request.
func apiAnswer(m *nats.Msg, to any) (code int, err error) {
	if noResponders(m) {
		return 503, errors.New("nobody answers")
	}
	if to == nil && isStored(m.Data) {
		return 0, nil
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &failed); err != nil {
		return 0, err
	}
	if failed.Error != nil {
		return int(failed.Error.ErrorCode), failed.Error
	}
	if to == nil {
		return 0, nil
	}
	return 0, json.Unmarshal(m.Data, to)
}
