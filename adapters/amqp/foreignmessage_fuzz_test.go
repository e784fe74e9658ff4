package amqp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// sentOn is what a delivery is sent with, its headers in order, if it is sent on as it was
// received.
func sentOn(t *testing.T, text string, change func(*adapters.Publication, *message.Message)) (properties, []string) {
	t.Helper()
	in := &incoming{header: text, message: message.Message{Payload: []byte("body")}}
	var d adapters.Delivery
	in.decode(&d)
	p := adapters.Publication{To: queueAt("q"), Key: d.Key, Properties: d.Properties}
	change(&p, d.Message)
	o, err := encodeFor(t, p, d.Message)
	if err != nil {
		t.Fatalf("%v\n%q", err, text)
	}
	o.user = "me"
	f := frame.Reader{S: string(o.appendProperties(nil, ""))}
	var sent properties
	sent.read(&f)
	if f.S != "" {
		t.Fatalf("behind the properties: %q", f.S)
	}
	return sent, headersOf(sent.headers)
}

// headersOf are the headers of a table but those that are this package's or the broker's.
func headersOf(table string) (list []string) {
	for f := (frame.Reader{S: table}); len(f.S) > 0; {
		name, rest := f.ShortString(), f.S
		f.Value(byte(f.Uint(1)))
		if _, ok := metadataKey(name); (ok || name == headerUUID) && name != headerUserID {
			list = append(list, fmt.Sprintf("%q %q", name, rest[:len(rest)-len(f.S)]))
		}
	}
	return list
}

// FuzzSentOn: whatever a message comes with, it is sent on with.
func FuzzSentOn(f *testing.F) {
	seed := func(p properties, headers ...string) {
		f.Add(string(p.appendTo(nil, func(b []byte) []byte {
			if headers == nil {
				return b
			}
			table := strings.Join(headers, "")
			return append(binary.BigEndian.AppendUint32(b, uint32(len(table))), table...)
		})))
	}
	seed(properties{})
	seed(properties{
		flags: 0xfffc, contentType: "application/json", contentEncoding: "gzip", deliveryMode: 2, priority: 3, correlationID: "c", replyTo: "r",
		expiration: "60000", messageID: "m", timestamp: 1, kind: "t", userID: "me", appID: "a", clusterID: "c",
	},
		"\x01nI\x00\x00\x00\x05", "\x01tF\x00\x00\x00\x08\x01aF\x00\x00\x00\x00", "\x03x-aS\x00\x00\x00\x01v", "\x02CCA\x00\x00\x00\x00")
	f.Fuzz(func(t *testing.T, text string) {
		// Only what a broker could deliver: read and written again it is the same.
		in := frame.Reader{S: text}
		var was properties
		was.read(&in)
		again := was.appendTo(nil, func(b []byte) []byte {
			if was.flags&flagHeaders == 0 {
				return b
			}
			return append(binary.BigEndian.AppendUint32(b, uint32(len(was.headers))), was.headers...)
		})
		names := map[string]bool{}
		for f := (frame.Reader{S: was.headers}); len(f.S) > 0; {
			name, kind := f.Field()
			if !strings.ContainsRune("StbBsuIilLfdDTxAFV", rune(kind)) || names[name] || copiesMessage(name) || strings.HasPrefix(name, "motif-") {
				return
			}
			names[name] = true
			f.Value(kind)
		}
		if !bytes.Equal(again, []byte(text)) || was.flags&3 != 0 || was.userID != "me" && was.flags&flagUserID != 0 || len(names) == 0 && was.flags&flagHeaders != 0 {
			return
		}
		_, exact := expiration(was.expiration)
		if was.flags&flagExpiration != 0 && (!exact || was.expiration == "") {
			return
		}
		now, headers := sentOn(t, "\x00\x01q"+text, func(*adapters.Publication, *message.Message) {})
		if want := headersOf(was.headers); !slices.Equal(headers, want) {
			t.Errorf("headers\n%s, want\n%s", headers, want)
		}
		if len(headers) == 0 {
			was.flags &^= flagHeaders // they were the broker's
			now.flags &^= flagHeaders
		}
		if was.headers, now.headers = "", ""; was != now {
			t.Errorf("sent on as\n%+v, came as\n%+v", now, was)
		}
	})
}
