package conformancetest

// What is said here of a peer was seen in its code, too.

var goChannelNotes = map[string]string{
	"queue/one-of-many":     "gochannel has no consumer groups: every subscriber gets every message. So the door gives a queue one subscription, and refuses a second one.",
	"pubsub/private-copies": goChannelOrder,
	"pubsub/private-order":  goChannelOrder,
}

const goChannelOrder = "gochannel sends each message from a goroutine of its own, so that they overtake each other."

var watermillAMQPNotes = map[string]string{
	"queue/prefetch-holds": "watermill-amqp hands over one message at a time and waits for its ack, whatever the prefetch, so that a second one is never in hand.",
}
