package conformancetest

// What is said here of a peer was seen in its code, too.

const (
	goChannelForgets = "gochannel discards what is published while nobody is subscribed: a queue keeps nothing for who comes later."
	goChannelOrder   = "gochannel sends each message from a goroutine of its own, so that they overtake each other, in some runs more than in others."
)

var goChannelNotes = map[string]string{
	"ack/settled-is-gone":           goChannelForgets,
	"publish/async":                 goChannelForgets,
	"publish/whole":                 goChannelForgets,
	"pubsub/private-copies":         goChannelOrder,
	"pubsub/private-gone":           goChannelOrder,
	"pubsub/private-order":          goChannelOrder,
	"queue/isolated-from-publisher": goChannelForgets,
	"queue/one-of-many":             "gochannel has no consumer groups: every subscriber gets every message. So the door gives a queue one subscription, and refuses a second one.",
	"queue/publisher-order":         goChannelOrder,
	"queue/redeclare":               goChannelForgets,
}

const watermillAMQPOne = "watermill-amqp hands over one message at a time and waits for its ack, whatever the prefetch: the others that this rule needs in hand never come."

var watermillAMQPNotes = map[string]string{
	"ack/after-close":           watermillAMQPOne,
	"ack/twice":                 watermillAMQPOne,
	"queue/idle-share":          watermillAMQPOne,
	"queue/late-joiner":         watermillAMQPOne,
	"queue/prefetch-holds":      watermillAMQPOne,
	"queue/slow-starves-nobody": watermillAMQPOne,
}
