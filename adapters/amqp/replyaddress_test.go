package amqp

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
)

// process is a channel's, as a direct reply address has it.
func process(node string, numbers ...uint32) []byte {
	b := append([]byte{131, 88, 118, 0, byte(len(node))}, node...)
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

func directAddress(node string) string { return addressOf(process(node, 1, 2, 3)) }

func addressOf(process []byte) string {
	return directReplyTo + "." + base64.StdEncoding.EncodeToString(process) + ".key=="
}

// unreadable are direct reply addresses that no broker made.
func unreadable() map[string]string {
	good := process("reply@71", 1, 2, 3)
	return map[string]string{
		"nothing":           directReplyTo + ".",
		"one part":          directReplyTo + ".g1h2",
		"no key":            strings.TrimSuffix(addressOf(good), "key=="),
		"three parts":       addressOf(good) + ".more",
		"not base64":        directReplyTo + ".!!!.key",
		"no process":        directReplyTo + ".g1h2.key",
		"empty":             directReplyTo + "..key",
		"another format":    addressOf(append([]byte{130}, good[1:]...)),
		"another type":      addressOf(append([]byte{131, 89}, good[2:]...)),
		"cut":               addressOf(good[:len(good)-1]),
		"cut in the name":   addressOf(good[:9]),
		"no name":           addressOf(good[:4]),
		"too long":          addressOf(append(good, 0)),
		"a long name":       addressOf(slices.Concat(good[:3], []byte{1, 8}, good[5:])),
		"a node's own name": addressOf(process("rabbit@localhost", 1, 2, 3)),
		"a longer name":     addressOf(slices.Concat(process("reply@7"), []byte("1"), make([]byte, 12))),
		"only a number":     addressOf(process("71", 1, 2, 3)),
		"no number":         addressOf(process("reply@", 1, 2, 3)),
		"another number":    addressOf(process("reply@-1", 1, 2, 3)),
		"a large number":    addressOf(process("reply@99999999999", 1, 2, 3)),
	}
}

// TestUnreadableAddresses: what would cost the connection is refused before it
// is sent, whatever AllowReplyTo says. What looks like an address costs none.
func TestUnreadableAddresses(t *testing.T) {
	d := connect(t, func(c *Config) { c.AllowReplyTo = func(string) bool { return true } })
	for name, address := range unreadable() {
		if err := d.Publish(soon(t), replyTo(address), msg("m")); !errors.Is(err, adapters.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	in := openInbox(t, d)
	encoded, key, _ := strings.Cut(strings.TrimPrefix(in.address, directReplyTo+"."), ".")
	real, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	for _, back := range []int{9, 5, 4, 3, 2, 1} { // processes that are not any more, or not there
		at := len(real) - back
		for _, bits := range []byte{1, 0x80, 0xff} {
			odd := bytes.Clone(real)
			odd[at] ^= bits
			address := directReplyTo + "." + base64.StdEncoding.EncodeToString(odd) + "." + key
			if err := d.Publish(soon(t), replyTo(address), msg("m")); err != nil {
				t.Errorf("byte %d with %#x: %v", at, bits, err)
			}
		}
	}
	for _, odd := range []string{"a", "=", strings.Repeat("k", 100)} {
		if err := d.Publish(soon(t), replyTo(strings.TrimSuffix(in.address, key)+odd), msg("m")); err != nil {
			t.Errorf("key %q: %v", odd, err)
		}
	}
	publish(t, d, replyTo(in.address), "here")
	if got := in.take(t).Message.UUID; got != "here" || len(in.got) > 0 {
		t.Errorf("got %q and %d more", got, len(in.got))
	}
	if gen := d.publisher.current().generation; gen != 1 {
		t.Errorf("connection %d", gen)
	}
}

// TestDirectAnswersHaveNoTTL: others have the one that they were given.
func TestDirectAnswersHaveNoTTL(t *testing.T) {
	d := connect(t)
	in := openInbox(t, d)
	queue := subscribe(t, d, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1})
	for _, address := range []string{in.address, queue.Address()} {
		p := replyTo(address)
		p.TTL = time.Hour
		publish(t, d, p, "answer")
	}
	if got := in.take(t); got.TTL != 0 {
		t.Errorf("TTL %v", got.TTL)
	}
	got := receive(t, queue, "answer")
	if got.TTL != time.Hour {
		t.Errorf("in a queue: TTL %v", got.TTL)
	}
	settle(t, got, adapters.Ack)
}
