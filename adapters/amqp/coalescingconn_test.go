package amqp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeSocket is a net.Conn whose other side is under the test's control.
type fakeSocket struct {
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

func newFakeSocket() *fakeSocket {
	return &fakeSocket{closed: make(chan struct{}), expired: make(chan struct{})}
}

func (s *fakeSocket) Write(p []byte) (int, error) {
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

func (s *fakeSocket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if s.deadline = t; !t.IsZero() {
		expired := s.expired
		s.timer = time.AfterFunc(time.Until(t), func() { close(expired) })
	}
	return nil
}

func (s *fakeSocket) Read([]byte) (int, error) {
	<-s.closed
	return 0, io.EOF
}

func (s *fakeSocket) Close() error {
	s.once.Do(func() { close(s.closed) })
	_ = s.SetWriteDeadline(time.Time{})
	return nil
}

func (s *fakeSocket) LocalAddr() net.Addr             { return nil }
func (s *fakeSocket) RemoteAddr() net.Addr            { return nil }
func (s *fakeSocket) SetDeadline(time.Time) error     { return nil }
func (s *fakeSocket) SetReadDeadline(time.Time) error { return nil }

func (s *fakeSocket) hold() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = make(chan struct{})
	return s.gate
}

func TestWireCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSocket()
		c := newCoalescingConn(s, s, time.Second)
		gate := s.hold()
		var want bytes.Buffer
		for i := range 100 {
			p := fmt.Appendf(nil, "message %d\n", i)
			want.Write(p)
			if n, err := c.Write(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			clear(p) // Write has copied it
			if i == 0 {
				synctest.Wait()
			}
		}
		close(gate)
		_ = c.Close()
		<-c.done
		if got := s.written.String(); got != want.String() {
			t.Errorf("written %q", got)
		}
		if s.writes != 2 {
			t.Errorf("%d writes, want 2: the first message, and those that came meanwhile", s.writes)
		}
		if _, err := c.Write([]byte("late")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
	})
}

// TestWireDeadline: a write that the other side does not take ends after the timeout,
// and the connection with it. amqp091 sets no deadline, and whoever publishes, and Close,
// would wait for ever.
func TestWireDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSocket()
		c := newCoalescingConn(s, s, time.Second)
		s.hold()
		start := time.Now()
		_, _ = c.Write([]byte("a"))
		<-c.done
		if took := time.Since(start); took != time.Second {
			t.Errorf("gave up after %v, want 1s", took)
		}
		if _, err := c.Write([]byte("b")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write: %v", err)
		}
		select {
		case <-s.closed:
		default:
			t.Error("the socket is not closed")
		}
	})
}

// TestWireDeadlineMovesOn: what goes on being written is not cut off.
func TestWireDeadlineMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSocket()
		c := newCoalescingConn(s, s, time.Second)
		for range 100 {
			if _, err := c.Write([]byte("a")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		s.hold()
		start := time.Now()
		_, _ = c.Write([]byte("b"))
		<-c.done
		if took := time.Since(start); took < 750*time.Millisecond || took > time.Second {
			t.Errorf("gave up after %v, want about 1s", took)
		}
	})
}

func TestWireBlockedHasNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSocket()
		c := newCoalescingConn(s, s, time.Second)
		gate := s.hold()
		_, _ = c.Write([]byte("a"))
		time.Sleep(time.Second / 2)
		c.setBlocked(true)
		time.Sleep(time.Hour)
		if _, err := c.Write([]byte("b")); err != nil {
			t.Fatalf("while blocked: %v", err)
		}
		c.setBlocked(false)
		time.Sleep(time.Second / 2)
		close(gate)
		synctest.Wait()
		if s.written.String() != "ab" {
			t.Errorf("written %q", s.written.String())
		}
		s.hold()
		_, _ = c.Write([]byte("c"))
		<-c.done // the deadline is back
	})
}

func TestWireRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSocket()
		c := newCoalescingConn(s, s, time.Second)
		if c.waitRoom() != nil {
			t.Fatal("no room in an empty buffer")
		}
		gate := s.hold()
		_, _ = c.Write([]byte("a"))
		synctest.Wait()
		_, _ = c.Write(make([]byte, highWater+1)) // does not wait
		room := c.waitRoom()
		if room == nil {
			t.Fatal("room past the high water mark")
		}
		close(gate)
		<-room
		_ = c.Close()
		<-c.done

		// And nobody waits for room that will never be.
		s = newFakeSocket()
		c = newCoalescingConn(s, s, time.Second)
		s.hold()
		_, _ = c.Write([]byte("a"))
		synctest.Wait()
		_, _ = c.Write(make([]byte, highWater+1))
		room = c.waitRoom()
		c.abort(errors.New("cut"))
		<-room
		<-c.done
	})
}

// TestWireReadFails: a broker that is not heard from any more does not keep
// writers either.
func TestWireReadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSocket()
		c := newCoalescingConn(s, s, time.Hour)
		s.hold()
		_, _ = c.Write([]byte("a"))
		synctest.Wait()
		_ = s.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("Read: %v", err)
		}
		<-c.done
		if _, err := c.Write([]byte("b")); err == nil {
			t.Error("Write after a failed read")
		}
	})
}

func TestWireCloseDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSocket()
		c := newCoalescingConn(s, s, time.Hour)
		s.hold()
		_, _ = c.Write([]byte("a"))
		synctest.Wait()
		start := time.Now()
		_ = c.Close()
		<-c.done
		if took := time.Since(start); took != lingerTime {
			t.Errorf("closed after %v, want %v", took, lingerTime)
		}
	})
}

// TestWireKeepsReadDeadline: amqp091 clears the deadlines after the handshake,
// at a moment when heartbeats may have set one already.
func TestWireKeepsReadDeadline(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	c := newCoalescingConn(client, client, time.Second)
	defer func() { _ = c.Close(); <-c.done }()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_ = c.SetDeadline(time.Time{})
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read: %v", err)
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{min: 100 * time.Millisecond, max: time.Second}
	for _, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		want *= time.Millisecond
		if got := b.wait(); got < want/2 || got > want {
			t.Errorf("wait of %v, want %v to %v", got, want/2, want)
		}
	}
	b.reset()
	if got := b.wait(); got > 100*time.Millisecond {
		t.Errorf("wait of %v after reset", got)
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if !sleep(t.Context(), time.Hour) || time.Since(start) != time.Hour {
			t.Error("did not sleep")
		}
	})
}
