package jetstream

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// Names at the server. A queue is a stream, and so are all bindings, and what waits to be routed.
const (
	queuePrefix    = "MOTIF_Q_"
	bindingsStream = "MOTIF_X"
	bindingsPrefix = "motif.x."
)

// newID returns what tells a queue from another one of its name, as a part of a subject.
func newID() string { return strings.ToLower(rand.Text()) }

// token returns name as a part of a subject and of a stream's name, which must hold for file
// systems that ignore case, too: what is not a lower-case letter, a digit, '_' or '-' is '=' and
// two hexadecimal digits. A name that gets too long for a folder's is its hash; those begin with
// "=h", as no other does.
func token(name string) string {
	const longest = 200
	plain := strings.IndexFunc(name, func(r rune) bool { return !isPlain(r) }) < 0
	if plain && len(name) <= longest {
		return name
	}
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; isPlain(rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	if b.Len() > longest {
		return fmt.Sprintf("=h%x", sha256.Sum256([]byte(name)))
	}
	return b.String()
}

func isPlain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-'
}

// queueName has the names of a queue at the server. The zero value of id is that of what is
// published to the queue itself; what comes by a binding says of which queue of that name, so that
// it does not reach one that was made later.
type queueName struct{ name, token string }

func nameQueue(name string) queueName { return queueName{name, token(name)} }

func (q queueName) stream() string { return queuePrefix + q.token }

func (q queueName) subject() string { return "motif.q." + q.token + ".m.q" }

func (q queueName) boundSubject(id string) string { return "motif.q." + q.token + ".m." + id }

// messages are all subjects of messages to consume.
func (q queueName) messages() string { return "motif.q." + q.token + ".m.*" }

// schedules are all subjects of messages that wait, each its own.
func (q queueName) schedules() string { return "motif.q." + q.token + ".s.*" }

func (q queueName) newSchedule() string { return "motif.q." + q.token + ".s." + newID() }

func newInbox() string { return nats.NewInbox() }

// Names of private queues, which no user's queue can have.
const (
	privatePrefix = "amq.gen-"
	replyPrefix   = "amq.jetstream.reply."
)

// isReplyAddress reports whether an address, which came with a message, is one of ours.
func isReplyAddress(s string) bool {
	id, found := strings.CutPrefix(s, replyPrefix)
	return found && id != "" && !strings.ContainsFunc(id, func(r rune) bool { return !isPlain(r) })
}
