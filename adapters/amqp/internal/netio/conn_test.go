package netio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/amqp/internal/netio/netiotest"
)

func TestConnCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := netiotest.NewSocket()
		c := NewConn(s, s, time.Second)
		gate := s.Hold()
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
		<-c.Done()
		if got := string(s.Written()); got != want.String() {
			t.Errorf("written %q", got)
		}
		if s.Writes() != 2 {
			t.Errorf("%d writes, want 2: the first message, and those that came meanwhile", s.Writes())
		}
		if _, err := c.Write([]byte("late")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
	})
}

// TestConnDeadline: a write that the other side does not take ends after the timeout,
// and the connection with it. amqp091 sets no deadline: publishers, and Close, would wait forever.
func TestConnDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := netiotest.NewSocket()
		c := NewConn(s, s, time.Second)
		s.Hold()
		start := time.Now()
		_, _ = c.Write([]byte("a"))
		<-c.Done()
		if took := time.Since(start); took != time.Second {
			t.Errorf("gave up after %v, want 1s", took)
		}
		if _, err := c.Write([]byte("b")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write: %v", err)
		}
		select {
		case <-s.Closed():
		default:
			t.Error("the socket is not closed")
		}
	})
}

// TestConnDeadlineMovesOn: what goes on being written is not cut off.
func TestConnDeadlineMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := netiotest.NewSocket()
		c := NewConn(s, s, time.Second)
		for range 100 {
			if _, err := c.Write([]byte("a")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		s.Hold()
		start := time.Now()
		_, _ = c.Write([]byte("b"))
		<-c.Done()
		if took := time.Since(start); took < 750*time.Millisecond || took > time.Second {
			t.Errorf("gave up after %v, want about 1s", took)
		}
	})
}

func TestConnBlockedHasNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := netiotest.NewSocket()
		c := NewConn(s, s, time.Second)
		gate := s.Hold()
		_, _ = c.Write([]byte("a"))
		time.Sleep(time.Second / 2)
		c.SetBlocked(true)
		time.Sleep(time.Hour)
		if _, err := c.Write([]byte("b")); err != nil {
			t.Fatalf("while blocked: %v", err)
		}
		c.SetBlocked(false)
		time.Sleep(time.Second / 2)
		close(gate)
		synctest.Wait()
		if string(s.Written()) != "ab" {
			t.Errorf("written %q", string(s.Written()))
		}
		s.Hold()
		_, _ = c.Write([]byte("c"))
		<-c.Done() // the deadline is back
	})
}

func TestConnRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := netiotest.NewSocket()
		c := NewConn(s, s, time.Second)
		if c.WaitRoom() != nil {
			t.Fatal("no room in an empty buffer")
		}
		gate := s.Hold()
		_, _ = c.Write([]byte("a"))
		synctest.Wait()
		_, _ = c.Write(make([]byte, HighWater+1)) // does not wait
		room := c.WaitRoom()
		if room == nil {
			t.Fatal("room past the high water mark")
		}
		close(gate)
		<-room
		_ = c.Close()
		<-c.Done()

		// And nobody waits for room that will never be.
		s = netiotest.NewSocket()
		c = NewConn(s, s, time.Second)
		s.Hold()
		_, _ = c.Write([]byte("a"))
		synctest.Wait()
		_, _ = c.Write(make([]byte, HighWater+1))
		room = c.WaitRoom()
		c.Abort(errors.New("cut"))
		<-room
		<-c.Done()
	})
}

// TestConnReadFails: a broker that is not heard from any more does not keep
// writers either.
func TestConnReadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := netiotest.NewSocket()
		c := NewConn(s, s, time.Hour)
		s.Hold()
		_, _ = c.Write([]byte("a"))
		synctest.Wait()
		_ = s.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("Read: %v", err)
		}
		<-c.Done()
		if _, err := c.Write([]byte("b")); err == nil {
			t.Error("Write after a failed read")
		}
	})
}

func TestConnCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := netiotest.NewSocket()
		c := NewConn(s, s, time.Hour)
		s.Hold()
		_, _ = c.Write([]byte("a"))
		synctest.Wait()
		start := time.Now()
		_ = c.Close()
		<-c.Done()
		if took := time.Since(start); took != lingerTime {
			t.Errorf("closed after %v, want %v", took, lingerTime)
		}
	})
}

// TestConnKeepsReadDeadline: amqp091 clears the deadlines after the handshake,
// at a moment when heartbeats may have set one already.
func TestConnKeepsReadDeadline(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	c := NewConn(client, client, time.Second)
	defer func() { _ = c.Close(); <-c.Done() }()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_ = c.SetDeadline(time.Time{})
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read: %v", err)
	}
}
