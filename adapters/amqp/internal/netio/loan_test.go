package netio

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/amqp/internal/netio/netiotest"
)

// lend writes "head", a payload and "tail", and returns the payload, for changing it once it is
// given back.
func lend(t *testing.T, c *Conn, size int) (payload []byte, lent <-chan struct{}) {
	t.Helper()
	payload = bytes.Repeat([]byte("p"), size)
	lent, err := c.Lend([]byte("head"), payload, []byte("tail"))
	if err != nil {
		t.Fatal(err)
	}
	return payload, lent
}

func isOpen(c <-chan struct{}) bool {
	select {
	case <-c:
		return false
	default:
		return c != nil
	}
}

func TestLoanIsGivenBackOnceWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := netiotest.NewSocket()
		c := NewConn(s, s, time.Second)
		gate := s.Hold()
		_, _ = c.Write([]byte("a"))
		synctest.Wait()
		payload, lent := lend(t, c, 2*HighWater)
		_, _ = c.Write([]byte("b"))
		if !isOpen(lent) || c.Buffered() != 2*HighWater+9 || c.WaitRoom() == nil {
			t.Errorf("%d bytes wait, lent: %v", c.Buffered(), isOpen(lent))
		}
		close(gate)
		<-lent
		clear(payload)
		if _, small := lend(t, c, 10); small != nil {
			t.Error("lent what is small")
		}
		_ = c.Close()
		<-c.Done()
		want := "ahead" + string(bytes.Repeat([]byte("p"), 2*HighWater)) + "tailb" + "headpppppppppptail"
		if got := string(s.Written()); got != want {
			t.Errorf("written %d bytes, want %d", len(got), len(want))
		}
	})
}

// TestLoanIsRecalled: whoever lends may give up at any time, and what was lent goes on as it was.
func TestLoanIsRecalled(t *testing.T) {
	for name, begun := range map[string]bool{"before it is written": false, "while it is written": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := netiotest.NewSocket()
				c := NewConn(s, s, time.Hour)
				gate := s.Hold()
				if !begun {
					_, _ = c.Write([]byte("a"))
					synctest.Wait()
				}
				payload, lent := lend(t, c, minLoan)
				_, _ = c.Write([]byte("b"))
				synctest.Wait()
				start := time.Now()
				c.Recall()
				if isOpen(lent) || time.Since(start) != 0 {
					t.Fatalf("given back: %v, after %v", !isOpen(lent), time.Since(start))
				}
				clear(payload)
				time.Sleep(time.Minute) // the write goes on, with a deadline as before
				c.Recall()              // there is nothing to recall
				close(gate)
				_ = c.Close()
				<-c.Done()
				got, want := string(s.Written()), "head"+string(bytes.Repeat([]byte("p"), minLoan))+"tailb"
				if !begun {
					want = "a" + want
				}
				if got != want {
					t.Errorf("written %d bytes, want %d", len(got), len(want))
				}
			})
		})
	}
}

// lateSocket is a Socket whose deadlines do not pass before the test lets them.
type lateSocket struct {
	*netiotest.Socket
	last time.Time
}

func (s *lateSocket) SetWriteDeadline(t time.Time) error {
	s.last = t
	return nil
}

// TestLoanIsRecalledAgainstOdds: what else sets a deadline before the write has noticed that its
// own has passed does not keep what is lent.
func TestLoanIsRecalledAgainstOdds(t *testing.T) {
	for name, meanwhile := range map[string]func(*Conn){
		"blocked":   func(c *Conn) { c.SetBlocked(true) },
		"unblocked": func(c *Conn) { c.SetBlocked(false) },
		"closed":    func(c *Conn) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &lateSocket{Socket: netiotest.NewSocket()}
				c := NewConn(s, s, time.Hour)
				gate := s.Hold()
				_, lent := lend(t, c, minLoan)
				synctest.Wait()
				recalled := make(chan struct{})
				go func() { c.Recall(); close(recalled) }()
				synctest.Wait()
				meanwhile(c)
				_ = s.Socket.SetWriteDeadline(s.last)
				synctest.Wait()
				if isOpen(recalled) || isOpen(lent) {
					t.Error("not given back")
				}
				if name != "blocked" && !s.last.After(time.Now()) || name == "blocked" && !s.last.IsZero() {
					t.Errorf("the next deadline is %v", s.last)
				}
				close(gate)
				_ = c.Close()
				<-c.Done()
			})
		})
	}
}

// TestLoanOfADeadConnection: what is never written is given back, too.
func TestLoanOfADeadConnection(t *testing.T) {
	for name, begun := range map[string]bool{"before it is written": false, "while it is written": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := netiotest.NewSocket()
				c := NewConn(s, s, time.Second)
				s.Hold()
				if !begun {
					_, _ = c.Write([]byte("a"))
					synctest.Wait()
				}
				_, lent := lend(t, c, minLoan)
				<-lent // after the timeout
				<-c.Done()
				if _, err := c.Lend([]byte("head"), make([]byte, minLoan), nil); err == nil {
					t.Error("lent to a connection that is dead")
				}
			})
		})
	}
}

// TestLoanRecalledHalfWritten: a socket that took some of what was lent gets the rest.
func TestLoanRecalledHalfWritten(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // on loopback, at once
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String()) //nolint:noctx // on loopback, at once
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c := NewConn(client, client, time.Minute)
	var want []byte
	for range 3 {
		want = append(append(append(want, "head"...), bytes.Repeat([]byte("p"), 16<<20)...), "tail"...)
		payload, _ := lend(t, c, 16<<20)
		first := make([]byte, 1) // some of it is on its way
		if _, err := io.ReadFull(server, first); err != nil {
			t.Fatal(err)
		}
		c.Recall()
		clear(payload)
		rest := make([]byte, len(want)-1)
		if _, err := io.ReadFull(server, rest); err != nil {
			t.Fatal(err)
		}
		if got := append(first, rest...); !bytes.Equal(got, want) {
			t.Fatalf("other bytes than were lent, from %d on", len(got)-len(bytes.TrimLeft(got[4:], "p")))
		}
		want = want[:0]
	}
	_ = c.Close()
	<-c.Done()
}

// TestNothingIsLentToTLS: it could not go on after a write that was interrupted.
func TestNothingIsLentToTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := netiotest.NewSocket()
		c := NewConn(struct{ net.Conn }{s}, s, time.Second)
		payload, lent := lend(t, c, minLoan)
		if lent != nil {
			t.Error("lent to what is not the socket itself")
		}
		clear(payload)
		_ = c.Close()
		<-c.Done()
		if got := s.Written(); !bytes.HasPrefix(got, []byte("headppp")) || len(got) != minLoan+8 {
			t.Errorf("written %d bytes", len(got))
		}
	})
}
