package amqp

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"
)

// directReplyTo is the pseudo-queue of direct reply-to. In a request it stands for an address with
// this prefix, which RabbitMQ puts in its place.
const directReplyTo = "amq.rabbitmq.reply-to"

// allowsReplyTo reports whether replies may be sent to an address. A caller could otherwise name
// any queue, and have this process publish to it with this process's rights.
func (c *Config) allowsReplyTo(address string) bool {
	for i := range len(address) {
		if address[i] <= ' ' || address[i] > '~' {
			return false
		}
	}
	if isDirectReplyTo(address) {
		return isWellFormedDirect(address)
	}
	return strings.HasPrefix(address, "amq.gen-") || c.AllowReplyTo != nil && c.AllowReplyTo(address)
}

func isDirectReplyTo(address string) bool { return strings.HasPrefix(address, directReplyTo+".") }

// isWellFormedDirect reports whether a direct reply address is one that a broker makes: the process
// of a channel, in Erlang's external format and base64, and a key. RabbitMQ (up to 4.0) closes the
// connection of whoever publishes to an address that it cannot read.
func isWellFormedDirect(address string) bool {
	process, key, _ := strings.Cut(strings.TrimPrefix(address, directReplyTo+"."), ".")
	b, err := base64.StdEncoding.DecodeString(process)
	if err != nil || key == "" || strings.Contains(key, ".") {
		return false
	}
	const numbers = 12                                   // the bytes of the numbers behind the node's name
	b, ok := bytes.CutPrefix(b, []byte{131, 88, 118, 0}) // the tags of a process and of its node, whose name has at most 255 bytes
	if !ok || len(b) == 0 || len(b) != 1+int(b[0])+numbers {
		return false
	}
	node, ok := bytes.CutPrefix(b[1:len(b)-numbers], []byte("reply@")) // followed by a number in place of the node's name
	_, err = strconv.ParseUint(string(node), 10, 32)
	return ok && err == nil
}
