package amqp

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// pendingPublish is a publish without a confirm. The one with tag t is at index t modulo the length
// of pending.
type pendingPublish struct {
	done      func(error) // nil once it is confirmed
	exchange  string
	key       string
	size      int // of the payload, in bytes
	returnKey returnKey
	mandatory bool
	returned  bool
}

// resolvedPublish is a publish whose result is known; its done has not been called yet.
type resolvedPublish struct {
	done func(error)
	err  error
}

// headerSeq identifies a returned message where its id does not: while another one with the same id
// is pending.
const headerSeq = "motif-seq"

// returnKey identifies a returned message: by its id, and a number if another one has the same id.
type returnKey struct{ id, seq string }

// returnKey returns the key that identifies a message if it is returned. Ids are the publishers'
// own and need not be unique: of two that are pending with one id, the second gets a number.
func (pc *publishChannel) returnKey(id string) returnKey {
	if pc.pendingIDs[id] == 0 {
		return returnKey{id: id}
	}
	pc.returnSeq++
	return returnKey{id: id, seq: strconv.FormatUint(pc.returnSeq, 36)}
}

// HandleFrame handles confirms and returns, and returns false for any other frame.
func (pc *publishChannel) HandleFrame(raw []byte) bool {
	switch raw[0] {
	case frame.TypeBody: // the body of a return
		return true
	case frame.TypeHeader:
		pc.markReturned(readReturnKey(string(raw[frame.HeadSize : len(raw)-1])))
		return true
	}
	switch m := frame.MethodOf(raw); m {
	case frame.MethodReturn: // the header that follows says which message
		return true
	case frame.MethodAck, frame.MethodNack:
		const at = frame.HeadSize + 4
		if len(raw) < at+8+1+1 {
			return false
		}
		pc.confirm(binary.BigEndian.Uint64(raw[at:]), raw[at+8]&1 != 0, m == frame.MethodAck)
		return true
	case frame.MethodCancelOK: // the response to a probe: nobody else cancels on this channel
		pc.probeAnswered()
		return true
	}
	return false
}

// markReturned notes that the broker returned a message. Its confirm follows.
func (pc *publishChannel) markReturned(t returnKey) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	for tag := pc.oldest; tag < pc.next; tag++ {
		if pub := pc.at(tag); pub.done != nil && pub.mandatory && pub.returnKey == t {
			pub.returned = true
			return
		}
	}
}

// confirm matches a confirm to its publish: to the one with this delivery tag or, with multiple, to
// all up to it.
func (pc *publishChannel) confirm(tag uint64, multiple, ack bool) {
	pc.mu.Lock()
	if pc.closeErr != nil {
		pc.mu.Unlock()
		return
	}
	flying := pc.oldest < pc.next
	if !ack && flying && time.Now().After(pc.trusted) {
		pc.draining = true
	}
	from := tag
	if multiple {
		from = pc.oldest
	}
	if tag >= pc.next { // never sent: it is unknown what is meant
		tag = pc.next - 1
	}
	for ; from >= pc.oldest && from <= tag; from++ {
		err := error(nil)
		if !ack {
			err = adapters.ErrNacked
		}
		pc.resolve(pc.at(from), err)
	}
	for pc.oldest < pc.next && pc.at(pc.oldest).done == nil {
		pc.oldest++
	}
	pc.signalDrained()
	pc.mu.Unlock()
	pc.notify()
}

// resolve notes the result of a publish. pc.mu is held.
func (pc *publishChannel) resolve(pub *pendingPublish, err error) {
	if pub.done == nil {
		return
	}
	if pub.mandatory {
		if pc.pendingIDs[pub.returnKey.id]--; pc.pendingIDs[pub.returnKey.id] == 0 {
			delete(pc.pendingIDs, pub.returnKey.id)
		}
		if pub.returned {
			err = adapters.ErrUnroutable
		}
	}
	pc.resolved = append(pc.resolved, resolvedPublish{pub.done, err})
	*pub = pendingPublish{}
}

// notify calls back with the results, without holding pc.mu: whoever is called may publish.
func (pc *publishChannel) notify() {
	for i, l := range pc.resolved {
		l.done(l.err)
		<-pc.driver.inFlight
		pc.resolved[i] = resolvedPublish{}
	}
	pc.resolved = pc.resolved[:0]
}

// Closed lets nothing more be sent. What is pending is unconfirmed, unless the broker certainly did
// not take it.
func (pc *publishChannel) Closed(why error) {
	if pc.driver.ctx.Err() != nil {
		why = adapters.ErrClosed
	}
	pc.mu.Lock()
	if pc.closeErr != nil {
		pc.mu.Unlock()
		return
	}
	pc.closeErr = why
	refused := pc.findRefused(why)
	var landed []resolvedPublish
	for tag := pc.oldest; tag < pc.next; tag++ {
		pub := pc.at(tag)
		switch {
		case pub.done == nil:
		case pub.returned:
			landed = append(landed, resolvedPublish{pub.done, adapters.ErrUnroutable})
		default:
			landed = append(landed, resolvedPublish{pub.done, refused.errorOf(tag, why)})
		}
	}
	pc.pending, pc.pendingIDs = nil, nil
	pc.oldest = pc.next
	pc.signalDrained()
	pc.releaseOthers(pc.held != nil)
	pc.mu.Unlock()
	for _, l := range landed {
		l.done(l.err)
		<-pc.driver.inFlight
	}
}

// readReturnKey reads the key from the header of a returned message.
func readReturnKey(header string) (t returnKey) {
	r := frame.Reader{S: header}
	r.Next(12) // class, weight, size
	flags := uint16(r.Uint(2))
	for _, flag := range []uint16{flagContentType, flagEncoding} {
		if flags&flag != 0 {
			r.ShortString()
		}
	}
	if flags&flagHeaders != 0 {
		for table := (frame.Reader{S: r.LongString()}); len(table.S) > 0; {
			// Between a publish and its return the broker may have added headers of any type.
			name, kind := table.Field()
			if value, _ := table.Value(kind).(string); name == headerSeq {
				t.seq = value
			}
		}
	}
	for _, flag := range []uint16{flagDeliveryMode, flagPriority} {
		if flags&flag != 0 {
			r.Next(1)
		}
	}
	for _, flag := range []uint16{flagCorrelation, flagReplyTo, flagExpiration} {
		if flags&flag != 0 {
			r.ShortString()
		}
	}
	if flags&flagMessageID != 0 {
		t.id = r.ShortString()
	}
	return t
}
