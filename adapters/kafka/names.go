package kafka

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// hashed begins a token that is a hash.
const hashed = "_h"

// Prefixes of topics. A '.' is in none of our names: to Kafka it is the same as a '_'.
const (
	queuePrefix    = "motif-q-" // a queue, and the share group that consumes it
	exchangePrefix = "motif-x-" // the bindings of an exchange
)

// privatePrefix begins the names of private queues, which no user's queue can have.
const privatePrefix = "amq.gen-"

// privateTopics begins the names of their topics.
var privateTopics = queueTopic(privatePrefix)

// newID returns what Kafka calls a UUID: the name of a member of a share group.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func queueTopic(name string) string { return queuePrefix + token(name) }

func exchangeTopic(name string) string { return exchangePrefix + token(name) }

// ownBytes are those that stand for themselves in a topic's name.
const ownBytes = "abcdefghijklmnopqrstuvwxyz0123456789-"

// token returns name as a part of a topic's name, which must hold for file systems that ignore
// case, too: what is not a lower-case letter, a digit or '-' is '_' and two hexadecimal digits. One
// that gets too long is its hash; those begin with "_h", as no other does.
func token(name string) string {
	const longest = 200
	if len(name) <= longest && strings.Trim(name, ownBytes) == "" {
		return name
	}
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; strings.IndexByte(ownBytes, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	if b.Len() > longest {
		return fmt.Sprintf(hashed+"%x", sha256.Sum256([]byte(name)))
	}
	return b.String()
}

// nameOf returns the name that a token stands for, if it is not a hash.
func nameOf(token string) (name string, ok bool) {
	if strings.HasPrefix(token, hashed) {
		return "", false
	}
	var b strings.Builder
	for rest := token; rest != ""; {
		c := rest[0]
		if c == '_' {
			n, err := strconv.ParseUint(rest[1:min(3, len(rest))], 16, 8)
			if err != nil || len(rest) < 3 {
				return "", false // it is not ours
			}
			c, rest = byte(n), rest[2:]
		}
		b.WriteByte(c)
		rest = rest[1:]
	}
	return b.String(), true
}
