package amqp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
	"github.com/motifmq/motif/adapters/amqp/internal/netio"
	"github.com/motifmq/motif/adapters/amqp/internal/netio/netiotest"
)

// scripted is a socket that a test writes what is read from.
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

// newScript returns frames, with a publishChannel on channel 3, and where to write what
// the broker says.
func newScript(t *testing.T) (*frame.Mux, *publishChannel, *io.PipeWriter, *scripted) {
	t.Helper()
	in, broker := io.Pipe()
	s := &scripted{Socket: netiotest.NewSocket(), in: in}
	mux := frame.NewMux(netio.NewConn(s, s, time.Second))
	d := &Driver{ctx: t.Context(), inFlight: make(chan struct{}, 1000)}
	pc := &publishChannel{
		driver: d, conn: new(connection), mux: mux, number: 3, frameMax: 4096, trusted: time.Now().Add(nackTrustTime),
		oldest: 1, next: 1, pending: make([]pendingPublish, 1), pendingIDs: map[string]int{}, accepted: map[string]struct{}{"": {}},
	}
	pc.conn.largestTaken.Store(1 << 20)
	if err := mux.Attach(pc.number, pc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = broker.Close()
		mux.Abort(io.EOF)
		<-mux.Done()
	})
	return mux, pc, broker, s
}

func frameOf(kind byte, channel uint16, parts ...[]byte) []byte {
	b, at := frame.Begin(nil, kind, channel)
	return frame.End(append(b, bytes.Join(parts, nil)...), at)
}

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func confirm(method uint32, tag uint64, multiple bool) []byte {
	flag := []byte{0}
	if multiple {
		flag[0] = 1
	}
	return frameOf(frame.TypeMethod, 3, u32(method), binary.BigEndian.AppendUint64(nil, tag), flag)
}

// answers sends n messages and returns where their answers come.
func answers(t *testing.T, pc *publishChannel, id func(i int) string, n int) []chan error {
	t.Helper()
	all := make([]chan error, n)
	for i := range all {
		all[i] = make(chan error, 2)
		pc.driver.inFlight <- struct{}{}
		r, err := new(Config).newRoute(&adapters.Publication{To: queueAt("q"), Mandatory: true})
		if err != nil {
			t.Fatal(err)
		}
		o := outgoing{route: &r, message: &message.Message{UUID: id(i), Payload: []byte("body")}}
		if err := pc.send(ctx, &o, func(err error) { all[i] <- err }); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func answered(c chan error) (error, bool) {
	select {
	case err := <-c:
		return err, true
	default:
		return nil, false
	}
}

// TestConfirmsDivide: the frames of a publishChannel are its own, however the stream is cut
// up, and the rest comes through unchanged.
func TestConfirmsDivide(t *testing.T) {
	large := frameOf(frame.TypeBody, 5, bytes.Repeat([]byte("x"), 96<<10))
	reply := func(seq, id string) []byte { // the header of a returned message
		table := frame.AppendField(nil, "other", "S")
		table = append(frame.AppendShort(table, "number"), 'l', 0, 0, 0, 0, 0, 0, 0, 9)
		if seq != "" {
			table = frame.AppendField(table, headerSeq, seq)
		}
		return frameOf(frame.TypeHeader, 3, []byte{0, frame.ClassBasic, 0, 0}, make([]byte, 8), []byte{0xb0, 0x80},
			frame.AppendShort(nil, "text/plain"), u32(uint32(len(table))), table, []byte{2}, frame.AppendShort(nil, id))
	}
	returned := frameOf(frame.TypeMethod, 3, u32(frame.MethodReturn), []byte("whatever"))
	theirs := [][]byte{
		frameOf(8, 0), frameOf(frame.TypeMethod, 4, u32(frame.MethodAck), make([]byte, 9)), large, frameOf(frame.TypeMethod, 3, u32(85<<16|11)),
		frameOf(frame.TypeHeader, 4, []byte("header")), frameOf(frame.TypeMethod, 0, u32(10<<16|60), []byte("\x03low")),
	}
	stream := slices.Concat(
		theirs[0], confirm(frame.MethodAck, 2, false), theirs[1],
		returned, reply("", "id 3"), frameOf(frame.TypeBody, 3, bytes.Repeat([]byte("y"), 64<<10)), theirs[2],
		confirm(frame.MethodNack, 4, false), confirm(frame.MethodAck, 3, true), theirs[3],
		confirm(frame.MethodAck, 99, false), confirm(frame.MethodAck, 1, false), confirm(frame.MethodAck, 7, true), theirs[4], theirs[5],
	)
	for _, size := range []int{1, 7, 100, 4096, len(stream)} {
		mux, pc, broker, _ := newScript(t)
		all := answers(t, pc, func(i int) string { return "id " + string(rune('1'+i)) }, 8)
		go func() {
			for b := range slices.Chunk(stream, size) {
				_, _ = broker.Write(b)
			}
			_ = broker.Close()
		}()
		got, err := io.ReadAll(io.MultiReader(mux)) // hides what else f can do
		if err != nil || !bytes.Equal(got, bytes.Join(theirs, nil)) {
			t.Fatalf("%d at a time: %d bytes came through, want %d, error %v", size, len(got), len(bytes.Join(theirs, nil)), err)
		}
		for i, want := range []error{nil, nil, adapters.ErrUnroutable, adapters.ErrNacked, nil, nil, nil, adapters.ErrUnconfirmed} {
			err, ok := answered(all[i])
			if !ok || !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%d at a time: message %d: %v (%v), want %v", size, i+1, err, ok, want)
			}
			if _, twice := answered(all[i]); twice {
				t.Errorf("message %d has two answers", i+1)
			}
		}
		if len(pc.driver.inFlight) != 0 {
			t.Errorf("%d places are not free", len(pc.driver.inFlight))
		}
	}
}

// TestReturnOfOneOfTwins: of two messages with one id the right one is
// returned, whichever is answered first.
func TestReturnOfOneOfTwins(t *testing.T) {
	for twin := range 2 {
		mux, pc, broker, _ := newScript(t)
		all := answers(t, pc, func(int) string { return "same" }, 2)
		if pc.at(1).returnKey.seq != "" || pc.at(2).returnKey.seq == "" {
			t.Fatalf("return keys %v and %v", pc.at(1).returnKey, pc.at(2).returnKey)
		}
		table := []byte(nil)
		if twin == 1 {
			table = frame.AppendField(nil, headerSeq, pc.at(2).returnKey.seq)
		}
		go func() {
			_, _ = broker.Write(slices.Concat(
				frameOf(frame.TypeMethod, 3, u32(frame.MethodReturn)),
				frameOf(frame.TypeHeader, 3, []byte{0, frame.ClassBasic, 0, 0}, make([]byte, 8), []byte{0x20, 0x80}, u32(uint32(len(table))), table, frame.AppendShort(nil, "same")),
				confirm(frame.MethodAck, 2, true), frameOf(8, 0)))
		}()
		if _, err := io.ReadFull(mux, make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		for i, c := range all {
			if err, _ := answered(c); errors.Is(err, adapters.ErrUnroutable) != (i == twin) {
				t.Errorf("twin %d was returned; answer of %d: %v", twin, i, err)
			}
		}
	}
}

// TestPublishChannelIsClosed: when the broker closes the channel, nothing more is sent, and each
// message that has no answer is told apart: the one that the channel was closed for, those before
// it, which may be stored, and those after it, which are not.
func TestPublishChannelIsClosed(t *testing.T) {
	const three = 3 // in flight to the same exchange; the second is larger than the first, and the third than that
	for _, c := range []struct {
		name    string
		code    uint16
		reason  string
		flights int
		want    []error
		also    error
	}{
		{"no exchange, and one is in flight", 404, "no exchange", 1, []error{errNotStored}, adapters.ErrNotFound},
		{"no exchange", 404, "no exchange", three, []error{adapters.ErrUnconfirmed, adapters.ErrUnconfirmed, adapters.ErrUnconfirmed}, nil},
		{
			"too large", 406, "message size 3 is larger than configured max size 2", three, []error{adapters.ErrUnconfirmed, adapters.ErrUnconfirmed, adapters.ErrTooLarge}, nil,
		},
		{
			"the first of those that are too large", 406, "message size 2 is larger than max size 1", three,
			[]error{adapters.ErrUnconfirmed, adapters.ErrTooLarge, errNotStored},
			nil,
		},
		{"no right", 403, "write access to exchange 'amq.default' refused", 1, []error{adapters.ErrAccess}, nil},
		{
			"no right to another exchange", 403, "write access to exchange 'x' refused", three,
			[]error{adapters.ErrUnconfirmed, adapters.ErrUnconfirmed, adapters.ErrUnconfirmed},
			nil,
		},
		{"a fault of the broker's", 506, "failed to deliver message: timeout", 1, []error{adapters.ErrUnconfirmed}, nil},
		{"a queue that goes", 506, "failed to deliver message: {not_found,x}", three, []error{errQueueGone, errQueueGone, errQueueGone}, adapters.ErrUnconfirmed},
		{"another reason", 406, "user_id property", 1, []error{adapters.ErrInvalid}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux, pc, broker, _ := newScript(t)
			all := answers(t, pc, func(i int) string { return string(rune('a' + i)) }, 1+c.flights)
			for i := range c.flights {
				pc.at(uint64(2 + i)).size = 1 + i
			}
			closing := frameOf(frame.TypeMethod, 3, u32(frame.MethodChannelClose), binary.BigEndian.AppendUint16(nil, c.code), frame.AppendShort(nil, c.reason), make([]byte, 4))
			go func() { _, _ = broker.Write(slices.Concat(confirm(frame.MethodAck, 1, false), closing)) }()
			got := make([]byte, len(closing))
			if _, err := io.ReadFull(mux, got); err != nil || !bytes.Equal(got, closing) {
				t.Fatalf("amqp091 does not hear of it: %x, %v", got, err)
			}
			if err, ok := answered(all[0]); !ok || err != nil {
				t.Errorf("confirmed: %v, %v", err, ok)
			}
			for i, want := range c.want {
				err, _ := answered(all[1+i])
				e, ok := errors.AsType[*amqp091.Error](err)
				if !errors.Is(err, want) || c.also != nil && !errors.Is(err, c.also) || !ok || e.Code != int(c.code) || e.Reason != c.reason {
					t.Errorf("message %d: %v, want %v", i, err, want)
				}
				if errors.Is(err, adapters.ErrUnconfirmed) != (errors.Is(want, adapters.ErrUnconfirmed) || errors.Is(c.also, adapters.ErrUnconfirmed)) {
					t.Errorf("message %d is both certain and not: %v", i, err)
				}
			}
			r, err := new(Config).newRoute(new(toQueue("q")))
			if err != nil {
				t.Fatal(err)
			}
			o := outgoing{route: &r, message: msg("late")}
			if err := pc.send(ctx, &o, func(error) { t.Error("called") }); !errors.Is(err, errChannelClosed) {
				t.Errorf("sent after the end: %v", err)
			}
		})
	}
}

// TestLateNackDrainsTheChannel: a channel that is not new and refuses is done with, once what
// is in flight has its answers or the channel is gone.
func TestLateNackDrainsTheChannel(t *testing.T) {
	r, err := new(Config).newRoute(new(toQueue("q")))
	if err != nil {
		t.Fatal(err)
	}
	late := outgoing{route: &r, message: msg("late")}
	for name, land := range map[string]func(*publishChannel){
		"answered": func(pc *publishChannel) { pc.confirm(3, false, true) },
		"gone":     func(pc *publishChannel) { pc.Closed(errors.New("cut")) },
	} {
		t.Run(name, func(t *testing.T) {
			_, pc, _, _ := newScript(t)
			all := answers(t, pc, func(i int) string { return string(rune('a' + i)) }, 3)
			pc.confirm(1, false, false)
			if pc.isClosed() {
				t.Error("closed after the refusal of a new channel")
			}
			pc.age()
			pc.confirm(2, false, false)
			if err := pc.send(ctx, &late, func(error) { t.Error("called") }); !pc.isClosed() || !errors.Is(err, errChannelClosed) {
				t.Errorf("sent after a refusal: %v", err)
			}
			ended, cancel := context.WithCancel(ctx)
			cancel()
			wantErr(t, "while one is in flight", pc.awaitDrained(ended), context.Canceled)
			land(pc)
			if err := pc.awaitDrained(soon(t)); err != nil {
				t.Error(err)
			}
			pc.confirm(3, false, false) // nonsense, and harmless
			for i, want := range []error{adapters.ErrNacked, adapters.ErrNacked} {
				if err, ok := answered(all[i]); !ok || !errors.Is(err, want) {
					t.Errorf("message %d: %v, %v", i, err, ok)
				}
			}
			if err, ok := answered(all[2]); !ok || (err == nil) != (name == "answered") {
				t.Errorf("the one in flight: %v, %v", err, ok)
			}
		})
	}
}

// age makes a channel old.
func (pc *publishChannel) age() {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.trusted = time.Now().Add(-1)
}

// TestNackBesideAQueueThatDoesNotAnswer: neither keeps others from publishing.
func TestNackBesideAQueueThatDoesNotAnswer(t *testing.T) {
	n := amqptest.Private(t, amqptest.Options{})
	d := connectTo(t, n.URL, func(c *Config) { c.QueueType = Classic })
	full := fromQueue("full", 1)
	full.Queue.MaxLength = 1
	declare(t, d, full)
	declare(t, d, fromQueue("silent", 1))
	declare(t, d, fromQueue("q", 1))
	publish(t, d, toQueue("full"), "first")
	const process = `{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"silent">>)), sys:%s(amqqueue:get_pid(Q))`
	if err := n.Eval(soon(t), nil, process, "suspend"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "to the silent queue", d.Publish(shortly(t), toQueue("silent"), msg("a")), adapters.ErrUnconfirmed)
	pc := d.publisher.current().slot("").channel.Load()
	pc.age()
	wantErr(t, "to the full queue", d.Publish(soon(t), toQueue("full"), msg("second")), adapters.ErrNacked)
	if err := d.Publish(soon(t), toQueue("q"), msg("b")); err != nil {
		t.Errorf("to another queue: %v", err)
	}
	if err := n.Eval(soon(t), nil, process, "resume"); err != nil {
		t.Fatal(err)
	}
	receiveAll(t, subscribe(t, d, fromQueue("silent", 1)), "a")
	receiveAll(t, subscribe(t, d, fromQueue("q", 1)), "b")

	// One that is resumed is replaced all the same, when there is nothing that does not answer.
	pc.age()
	wantErr(t, "to the full queue", d.Publish(soon(t), toQueue("full"), msg("third")), adapters.ErrNacked)
	publish(t, d, toQueue("q"), "c")
	if d.publisher.current().slot("").channel.Load() == pc {
		t.Error("a channel that refuses is used further")
	}
}
