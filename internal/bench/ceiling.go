package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"

	"github.com/rabbitmq/amqp091-go"
)

// noClient is what no client can be: one whose messages cost it nothing. It
// writes the same bytes again and again, as many as its window allows in one
// system call, and only counts the confirms. What it gets to is what the broker takes.
const noClient = "the broker's limit: bytes made before"

const (
	maxWrite = 16 << 20    // bytes
	maxBody  = 128<<10 - 8 // bytes of a body in one frame: RabbitMQ takes 128 KiB, unless told otherwise
)

// ceiling publishes to a queue on one channel, window messages under way at most, with the
// properties that Motif's messages have.
func ceiling(kind string, window, size int) Side {
	return func(_ context.Context, r *Run) error {
		t := &takeover{confirmed: make(chan int, window), early: make(map[uint64]bool)}
		conn, err := amqp091.DialConfig(r.URL, amqp091.Config{Dial: t.dial})
		if err != nil {
			return err
		}
		defer t.Close()
		ch, err := conn.Channel() // the first: its number is 1
		if err != nil {
			return err
		}
		if err := declareRaw(ch, r.Name, kind); err != nil {
			return err
		}
		if err := ch.Confirm(false); err != nil {
			return err
		}
		message := publishFrames(r.Name, size)
		whole := bytes.Repeat(message, max(1, min(window, maxWrite/len(message)))) // of large ones fewer at a time
		if err := r.Start(); err != nil {
			return err
		}
		t.on.Store(true)
		for sent, room := 0, window; sent < r.Messages || room < window; {
			for n := min(room, r.Messages-sent); n > 0; {
				b := whole[:min(n*len(message), len(whole))]
				if _, err := t.Write(b); err != nil {
					return err
				}
				k := len(b) / len(message)
				n, sent, room = n-k, sent+k, room-k
			}
			k, ok := <-t.confirmed
			if !ok {
				return errNotConfirmed
			}
			room += k
		}
		r.Stop()
		return deleteRaw(r.URL, r.Name)
	}
}

// deleteRaw deletes a queue, over a connection of its own.
func deleteRaw(url, queue string) error {
	conn, ch, err := dialRaw(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = ch.QueueDelete(queue, false, false, false)
	return err
}

// takeover is a connection that amqp091 logs in on, and reads nothing from after
// that.
type takeover struct {
	net.Conn
	on        atomic.Bool
	confirmed chan int // how many were, each time

	tag   uint64          // up to which all are
	early map[uint64]bool // those behind it that are
}

var errMethod = errors.New("neither a confirm nor a heartbeat")

func (t *takeover) dial(network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(context.Background(), network, address)
	t.Conn = conn
	return t, err
}

// Read returns what is amqp091's, and does not return once the rest is not.
func (t *takeover) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if !t.on.Load() || err != nil {
		return n, err
	}
	defer close(t.confirmed)
	there := append([]byte(nil), p[:n]...)
	buf := make([]byte, 32<<10)
	for {
		confirmed := 0
		for len(there) >= 8 && len(there) >= 8+int(binary.BigEndian.Uint32(there[3:])) {
			size := 8 + int(binary.BigEndian.Uint32(there[3:]))
			k, err := t.count(there[:size])
			if err != nil {
				return 0, err
			}
			confirmed, there = confirmed+k, there[size:]
		}
		if confirmed > 0 {
			t.confirmed <- confirmed
		}
		n, err := t.Conn.Read(buf)
		if err != nil {
			return 0, err
		}
		there = append(append([]byte(nil), there...), buf[:n]...)
	}
}

// count returns how many messages a frame confirms.
func (t *takeover) count(frame []byte) (int, error) {
	const method, heartbeat, basicAck = 1, 8, 60<<16 | 80
	switch {
	case frame[0] == heartbeat:
		return 0, nil
	case frame[0] != method || binary.BigEndian.Uint32(frame[7:]) != basicAck:
		return 0, errMethod
	}
	tag, n := binary.BigEndian.Uint64(frame[11:]), 0
	if all := frame[19]&1 != 0; !all && tag != t.tag+1 {
		t.early[tag] = true
		return 1, nil
	}
	for ; t.tag < tag || t.early[t.tag+1]; t.tag++ {
		if t.early[t.tag+1] {
			delete(t.early, t.tag+1)
		} else {
			n++
		}
	}
	return n, nil
}

// publishFrames are those of one publish on channel 1.
func publishFrames(queue string, size int) (b []byte) {
	const mandatory, persistent = 1, 2
	short := func(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }
	frame := func(kind byte, content []byte) {
		b = append(b, kind, 0, 1)
		b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
		b = append(append(b, content...), 0xce)
	}
	frame(1, append(short(short([]byte{0, 60, 0, 40, 0, 0}, ""), queue), mandatory))
	header := binary.BigEndian.AppendUint64([]byte{0, 60, 0, 0}, uint64(size))
	header = binary.BigEndian.AppendUint16(header, 1<<15|1<<12|1<<7|1<<6) // content type, delivery mode, id, timestamp
	header = append(short(header, "application/octet-stream"), persistent)
	header = short(header, "abcdefghijklmnopqrstuvwxyz")
	frame(2, binary.BigEndian.AppendUint64(header, 1_700_000_000))
	for ; size > 0; size -= maxBody {
		frame(3, make([]byte, min(size, maxBody)))
	}
	return b
}
