// Package netiotest has a net.Conn for tests of what writes to one.
package netiotest

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Socket is a net.Conn whose other end is under the test's control: reads wait for Close, and
// writes are recorded, or held by Hold.
type Socket struct {
	mu       sync.Mutex
	written  bytes.Buffer
	writes   int
	gate     chan struct{} // a write waits for it; nil: it does not
	deadline time.Time
	timer    *time.Timer
	expired  chan struct{}
	closed   chan struct{}
	once     sync.Once
}

// NewSocket returns an open socket.
func NewSocket() *Socket {
	return &Socket{closed: make(chan struct{}), expired: make(chan struct{})}
}

// Write implements [net.Conn].
func (s *Socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		s.mu.Lock()
		expired := s.expired
		s.mu.Unlock()
		select {
		case <-gate:
		case <-expired:
			return 0, os.ErrDeadlineExceeded
		case <-s.closed:
			return 0, net.ErrClosed
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	return s.written.Write(p)
}

// SetWriteDeadline implements [net.Conn].
func (s *Socket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if s.deadline = t; !t.IsZero() {
		select {
		case <-s.expired: // that was the deadline before
			s.expired = make(chan struct{})
		default:
		}
		expired := s.expired
		s.timer = time.AfterFunc(time.Until(t), func() { close(expired) })
	}
	return nil
}

// Read implements [net.Conn].
func (s *Socket) Read([]byte) (int, error) {
	<-s.closed
	return 0, io.EOF
}

// Close implements [net.Conn].
func (s *Socket) Close() error {
	s.once.Do(func() { close(s.closed) })
	_ = s.SetWriteDeadline(time.Time{})
	return nil
}

// LocalAddr implements [net.Conn].
func (s *Socket) LocalAddr() net.Addr             { return nil }
func (s *Socket) RemoteAddr() net.Addr            { return nil }
func (s *Socket) SetDeadline(time.Time) error     { return nil }
func (s *Socket) SetReadDeadline(time.Time) error { return nil }

// Hold makes writes wait until the channel that it returns is closed, their deadline passes, or
// the socket is closed.
func (s *Socket) Hold() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = make(chan struct{})
	return s.gate
}

// Written returns a copy of all that was written.
func (s *Socket) Written() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.written.Bytes())
}

// Writes returns how many calls of Write there were that took something.
func (s *Socket) Writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

// Closed returns a channel that is closed with the socket.
func (s *Socket) Closed() <-chan struct{} { return s.closed }
