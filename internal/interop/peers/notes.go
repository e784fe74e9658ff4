package peers

// What is said here of a peer was seen in its code, too.

const goChannelOrder = "gochannel sends each message from a goroutine of its own, so that they overtake each other, in some runs more than in others."

var goChannelNotes = map[string]string{
	"ack/settled-is-gone":          goChannelOrder,
	"ack/reject":                   goChannelOrder,
	"publish/async":                goChannelOrder,
	"publish/batch-with-a-bad-one": goChannelOrder,
	"pubsub/private-copies":        goChannelOrder,
	"pubsub/private-gone":          goChannelOrder,
	"pubsub/private-order":         goChannelOrder,
	"queue/keeps":                  "gochannel discards what is published while nobody is subscribed.",
	"queue/one-of-many":            "gochannel has no consumer groups: every subscriber gets every message. So the door gives a queue one subscription, and refuses a second one.",
	"queue/publisher-order":        goChannelOrder,
}

const watermillAMQPOne = "watermill-amqp hands over one message at a time and waits for its ack, whatever the prefetch: the others that this rule needs in hand never come."

var watermillAMQPNotes = map[string]string{
	"durable/clients-go-on":       "watermill-amqp tells nobody who has a message in hand that its session is lost: it waits for the ack first, and the handler may work on what somebody else has got by then.",
	"durable/messages":            "Closed while it reconnects, watermill-amqp leaves something behind: the connection, if the attempt succeeds, and else a goroutine that waits for one forever.",
	"input/metadata-does-nothing": "watermill-amqp makes metadata AMQP headers as they are named. With CC and BCC, which RabbitMQ takes for further addresses, it closes the channel; _watermill_message_uuid is its own, and is lost.",
	"pubsub/bound-on-return":      "RabbitMQ 4.3 nacks what is published to an exchange in the moment in which another subscriber's queue goes, and watermill-amqp does not send it again. It shows in some runs only.",
	"pubsub/address":              "A watermill publisher can publish to a topic, that is to all groups, so that the door has no address for one of them.",
	"queue/idle-share":            watermillAMQPOne,
	"queue/prefetch-holds":        watermillAMQPOne,
}
