// Package adapters is the seam between the message patterns and the brokers
// that carry them.
//
// Everything the patterns do reduces to one small interface, [Driver]:
// declare what must exist, publish to an [Endpoint], and pull deliveries from
// a [Source]. An adapter implements Driver for one kind of broker; the
// comments of this package are its contract, and the words must, must not and
// may are meant. What an adapter cannot do it leaves out of its [Features] and
// refuses with [ErrUnsupported]; it never pretends.
//
// # Topology
//
// There are three things behind the five patterns:
//
//   - a queue keeps messages until a consumer settles them. It is addressed
//     by Endpoint{Queue, name}, and consumers of one queue compete for its messages;
//   - an exchange (Fanout, Direct, Topic) keeps nothing: it copies a message to
//     each queue bound to it, at most once per queue however many of its
//     bindings match. A queue is bound for a group of subscribers
//     (Source.Group), or privately for one subscription;
//   - a reply address (Reply) is private to one subscription, or made by a
//     [ReplyReceiver], and is where the replies to calls arrive.
//
// Each side declares what it needs: Subscribe and Declare do so from a
// Source, and Publish does so for an exchange that it publishes to. Publish
// never declares a queue, because it does not know the queue's properties.
//
// # Messages
//
// A message is watermill's *message.Message: UUID, Metadata and Payload travel
// unchanged. What the broker itself needs to know (content type, correlation,
// reply address, time, attempt) travels beside it, in [Properties], so that no
// metadata key has a second meaning.
//
// The publisher keeps its messages: an adapter must not modify, retain or hand
// on a message or its payload after Publish has returned. The receiver owns what it
// receives: no two deliveries share a payload or a metadata map.
//
// # Errors
//
// An adapter wraps its client's error once, so that errors.Is finds a sentinel
// of this package and errors.As the client's own type. No error, log line or
// String method shows a credential.
package adapters
