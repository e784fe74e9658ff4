package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters/amqp/internal/netio"
	"github.com/motifmq/motif/adapters/amqp/internal/netio/netiotest"
)

// scripted is a socket whose reads come from a pipe.
type scripted struct {
	*netiotest.Socket
	in       *io.PipeReader
	deadline atomic.Pointer[time.Time] // of reads
}

func (s *scripted) SetReadDeadline(t time.Time) error {
	s.deadline.Store(&t)
	return nil
}

func (s *scripted) Read(p []byte) (int, error) { return s.in.Read(p) }

// newScripted returns a Mux, and where to write what the broker says.
func newScripted(t testing.TB) (*Mux, *io.PipeWriter, *scripted) {
	t.Helper()
	in, broker := io.Pipe()
	s := &scripted{Socket: netiotest.NewSocket(), in: in}
	mux := NewMux(netio.NewConn(s, s, time.Second))
	t.Cleanup(func() {
		_ = broker.Close()
		mux.Abort(io.EOF)
		<-mux.Done()
	})
	return mux, broker, s
}

// collector is a handler that takes methods of class basic, and content.
type collector struct {
	taken [][]byte
	why   []error
}

func (c *collector) HandleFrame(raw []byte) bool {
	if raw[0] == TypeMethod && MethodOf(raw)>>16 != ClassBasic {
		return false
	}
	c.taken = append(c.taken, bytes.Clone(raw))
	return true
}

func (c *collector) Closed(why error) { c.why = append(c.why, why) }

func frameOf(kind byte, channel uint16, parts ...[]byte) []byte {
	b, at := Begin(nil, kind, channel)
	return End(append(b, bytes.Join(parts, nil)...), at)
}

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// TestMuxDivides: frames of a channel go to its handler and all others through, however the
// stream is cut up.
func TestMuxDivides(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 3*readSize)
	ours := [][]byte{
		frameOf(TypeMethod, 3, u32(MethodDeliver), []byte("whatever")), frameOf(TypeHeader, 3, []byte("header")),
		frameOf(TypeBody, 3, large), frameOf(TypeMethod, 3, u32(MethodAck), make([]byte, 9)),
	}
	theirs := [][]byte{
		frameOf(8, 0), frameOf(TypeMethod, 4, u32(MethodAck), make([]byte, 9)), frameOf(TypeBody, 5, large),
		frameOf(TypeMethod, 3, u32(85<<16|11)), frameOf(TypeMethod, 0, u32(10<<16|60), []byte("\x03low")),
	}
	stream := slices.Concat(theirs[0], ours[0], theirs[1], ours[1], ours[2], theirs[2], theirs[3], ours[3], theirs[4])
	for _, size := range []int{1, 7, 100, 4096, len(stream)} {
		mux, broker, _ := newScripted(t)
		c := new(collector)
		if err := mux.Attach(3, c); err != nil {
			t.Fatal(err)
		}
		go func() {
			for b := range slices.Chunk(stream, size) {
				_, _ = broker.Write(b)
			}
			_ = broker.Close()
		}()
		got, err := io.ReadAll(io.MultiReader(mux)) // hides what else mux can do
		if err != nil || !bytes.Equal(got, bytes.Join(theirs, nil)) {
			t.Errorf("%d at a time: %d bytes came through, want %d, error %v", size, len(got), len(bytes.Join(theirs, nil)), err)
		}
		if !slices.EqualFunc(c.taken, ours, bytes.Equal) {
			t.Errorf("%d at a time: the handler got %d frames, want %d, or others", size, len(c.taken), len(ours))
		}
		if mux.CloseAll(io.EOF); len(c.why) == 0 || mux.Alive() || mux.Attach(4, c) == nil {
			t.Errorf("%d at a time: told of the end %d times, alive: %v", size, len(c.why), mux.Alive())
		}
	}
}

// TestMuxTellsWhy: what the broker closes, a channel or the connection, ends its handlers, with the
// broker's reason.
func TestMuxTellsWhy(t *testing.T) {
	reason := slices.Concat([]byte{404 >> 8, 404 & 0xff}, AppendShort(nil, "no exchange 'x'"), u32(MethodPublish))
	for _, c := range []struct {
		name    string
		frame   []byte
		channel bool
	}{
		{"channel", frameOf(TypeMethod, 3, u32(MethodChannelClose), reason), true},
		{"connection", frameOf(TypeMethod, 0, u32(MethodConnectionClose), reason), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux, broker, _ := newScripted(t)
			h := new(collector)
			if err := mux.Attach(3, h); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = broker.Write(c.frame) }()
			if got := make([]byte, len(c.frame)); true {
				if _, err := io.ReadFull(mux, got); err != nil || !bytes.Equal(got, c.frame) {
					t.Fatalf("amqp091 does not hear of it: %x, %v", got, err)
				}
			}
			var e *CloseError
			if len(h.why) != 1 || !errors.As(h.why[0], &e) || e.Channel != c.channel || e.Method != MethodPublish ||
				e.Err.Code != amqp091.NotFound || e.Err.Reason != "no exchange 'x'" {
				t.Errorf("told %v", h.why)
			}
			if fault := mux.ClientFault(); (fault != nil) == c.channel {
				t.Errorf("the connection's fault: %v", fault)
			}
		})
	}
}

// TestNothingComesOnClosedChannels: what the broker sends on a channel behind its end, amqp091 does
// not see, for it would close the connection; what it sends on others, and once the channel is open
// again, it does.
func TestNothingComesOnClosedChannels(t *testing.T) {
	for _, handled := range []bool{true, false} {
		mux, broker, _ := newScripted(t)
		c := new(collector)
		if handled {
			if err := mux.Attach(3, c); err != nil {
				t.Fatal(err)
			}
		}
		late := slices.Concat(
			frameOf(TypeMethod, 3, u32(MethodDeliver), make([]byte, 12)), frameOf(TypeHeader, 3, []byte("header")), frameOf(TypeBody, 3, []byte("body")),
			frameOf(TypeMethod, 3, u32(20<<16|41))) // close-ok, where both sides closed it
		theirs := [][]byte{
			frameOf(TypeMethod, 3, u32(MethodChannelClose), make([]byte, 7)), frameOf(TypeMethod, 4, u32(MethodDeliver), make([]byte, 12)),
			frameOf(TypeMethod, 3, u32(MethodChannelOpenOK), make([]byte, 4)), frameOf(TypeMethod, 3, u32(MethodDeliver), make([]byte, 12)),
		}
		go func() {
			_, _ = broker.Write(slices.Concat(theirs[0], late, theirs[1], late, theirs[2], theirs[3]))
			_ = broker.Close()
		}()
		got, err := io.ReadAll(io.MultiReader(mux)) // hides what else mux can do
		if err != nil || !bytes.Equal(got, bytes.Join(theirs, nil)) || len(c.taken) > 0 {
			t.Errorf("handled: %v: %x came through, want %x; the handler got %d frames; error %v", handled, got, bytes.Join(theirs, nil), len(c.taken), err)
		}
	}
}

// TestFramesStayWhole: what is written beside amqp091 never gets into one of its frames.
func TestFramesStayWhole(t *testing.T) {
	mux, _, socket := newScripted(t)
	theirs := slices.Concat([]byte("AMQP\x00\x00\x09\x01"), frameOf(TypeMethod, 1, []byte(strings.Repeat("m", 100))), frameOf(8, 0))
	sizes := []int{1, 3, 20, 2, 90, 1, 5}
	for i, at := 0, 0; at < len(theirs); i++ {
		n := min(sizes[i%len(sizes)], len(theirs)-at)
		if _, err := mux.Write(theirs[at : at+n]); err != nil {
			t.Fatal(err)
		}
		at += n
		if err := mux.WriteFrames(slices.Concat(frameOf(TypeMethod, 3, u32(MethodPublish)), frameOf(TypeBody, 3, []byte("body")))); err != nil {
			t.Fatal(err)
		}
	}
	_ = mux.Close()
	<-mux.Done()
	written, rest := socket.Written(), theirs
	for len(written) > 0 {
		n := Size(written)
		if n == 0 || n > len(written) {
			t.Fatalf("not a frame: %x", written)
		}
		if bytes.HasPrefix(rest, written[:n]) {
			rest = rest[n:]
		} else if binary.BigEndian.Uint16(written[1:]) != 3 {
			t.Fatalf("a frame that nobody wrote: %x", written[:n])
		}
		written = written[n:]
	}
	if len(rest) > 0 {
		t.Errorf("%d bytes of amqp091's are not there", len(rest))
	}
}

// TestHandledFramesAreSignsOfLife: amqp091 gives up a broker that it does not hear from, and does
// not hear what a handler takes.
func TestHandledFramesAreSignsOfLife(t *testing.T) {
	mux, broker, socket := newScripted(t)
	if err := mux.Attach(3, new(collector)); err != nil {
		t.Fatal(err)
	}
	if err := mux.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	before := *socket.deadline.Load()
	go func() {
		_, _ = broker.Write(slices.Concat(frameOf(TypeMethod, 3, u32(MethodAck), make([]byte, 9)), frameOf(8, 0)))
	}()
	if _, err := io.ReadFull(mux, make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if after := *socket.deadline.Load(); !after.After(before) {
		t.Errorf("the deadline stayed at %v", after)
	}
}

// FuzzMux: whatever the broker sends, what no handler takes comes through byte by byte, and what
// one takes are whole frames.
func FuzzMux(f *testing.F) {
	f.Add(frameOf(8, 0), 1)
	f.Add(slices.Concat(frameOf(TypeMethod, 3, u32(MethodDeliver), []byte("x")), frameOf(8, 0), frameOf(TypeBody, 3, []byte("body"))), 5)
	f.Add([]byte{1, 0, 3, 0xff, 0xff, 0xff, 0xff, 0}, 2)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		if len(stream) > 1<<16 {
			return
		}
		mux, broker, _ := newScripted(t)
		c := new(collector)
		if err := mux.Attach(3, c); err != nil {
			t.Fatal(err)
		}
		go func() {
			for b := range slices.Chunk(stream, max(1, size)) {
				_, _ = broker.Write(b)
			}
			_ = broker.Close()
		}()
		got, _ := io.ReadAll(io.MultiReader(mux))
		rest := stream
		for len(rest) > 0 {
			if len(c.taken) > 0 && bytes.HasPrefix(rest, c.taken[0]) {
				rest, c.taken = rest[len(c.taken[0]):], c.taken[1:]
				continue
			}
			n := Size(rest)
			if n == 0 || n > len(rest) || n > len(got) || !bytes.Equal(got[:n], rest[:n]) {
				break // the beginning of a frame, of which nobody needs to hear
			}
			got, rest = got[n:], rest[n:]
		}
		if len(c.taken) > 0 || !bytes.HasPrefix(rest, got) {
			t.Errorf("%d frames that nobody sent, and %x in place of %x", len(c.taken), got, rest)
		}
	})
}
