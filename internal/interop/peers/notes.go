package peers

// What is said here of a peer was seen in its code, too. What is called Sometimes shows in some
// runs only.

const goChannelOrder = "gochannel sends each message from a goroutine of its own, so that they overtake each other: what fails for it is another rule in each run."

var goChannelNotes = map[string]string{
	"queue/keeps":       "gochannel discards what is published while nobody is subscribed.",
	"queue/one-of-many": "gochannel has no consumer groups: every subscriber gets every message. So the door gives a queue one subscription, and refuses a second one.",
}

// goChannelSometimes are the rules that notice the order of messages by themselves.
var goChannelSometimes = map[string]string{
	"ack/settled-is-gone":          goChannelOrder,
	"ack/reject":                   goChannelOrder,
	"publish/async":                goChannelOrder,
	"publish/batch-with-a-bad-one": goChannelOrder,
	"pubsub/private-gone":          goChannelOrder,
}

const watermillAMQPOne = "watermill-amqp hands over one message at a time and waits for its ack, whatever the prefetch: the others that this rule needs in hand never come."

var watermillAMQPNotes = map[string]string{
	"durable/clients-go-on":       "watermill-amqp tells nobody who has a message in hand that its session is lost: it waits for the ack first, and the handler may work on what somebody else has got by then.",
	"input/metadata-does-nothing": "watermill-amqp makes metadata AMQP headers as they are named. With CC and BCC, which RabbitMQ takes for further addresses, it closes the channel; _watermill_message_uuid is its own, and is lost.",
	"pubsub/address":              "A watermill publisher can publish to a topic, that is to all groups, so that the door has no address for one of them.",
	"queue/idle-share":            watermillAMQPOne,
	"queue/prefetch-holds":        watermillAMQPOne,
}

const watermillAMQPNack = "RabbitMQ 4.3 nacks what is published to an exchange in the moment in which another subscriber's queue goes, and watermill-amqp does not send it again. It shows in some runs only."

var watermillAMQPSometimes = map[string]string{
	"durable/messages":       "Closed while it reconnects, watermill-amqp leaves something behind: the connection, if the attempt succeeds, and else a goroutine that waits for one forever.",
	"pubsub/bound-on-return": watermillAMQPNack,
	"pubsub/private-gone":    watermillAMQPNack,
}

const (
	watermillNATSDurable = "A durable consumer of JetStream is deleted when the subscription that made it ends, since watermill-nats leaves it to nats.go to make it. With it goes how far it has come: the next one begins with the whole stream again."
	watermillNATSGroups  = "A group is a consumer that its first subscription makes and that is deleted with that: before and after it nobody keeps what is published for the group."
	watermillNATSHeaders = "watermill-nats makes metadata, and the door's properties, headers of NATS as they are named. Blanks at the ends of their values are cut off; most names that are not a word are refused by the server, which reads as unconfirmed."
)

var watermillNATSNotes = map[string]string{
	"ack/reject":                  watermillNATSDurable,
	"ack/settled-is-gone":         watermillNATSDurable,
	"durable/clients-go-on":       "watermill-nats is sent further messages while one is in hand. Those that wait behind it for longer than AckWaitTimeout, 30 s, are delivered once more by the server, although they are acknowledged then.",
	"durable/messages":            "Closed while it connects again, watermill-nats returns an error and leaves the connection open.",
	"input/ids-and-metadata":      watermillNATSHeaders,
	"input/keys":                  watermillNATSHeaders,
	"input/metadata-does-nothing": "_watermill_message_uuid is a header of watermill-nats, and metadata of that name takes its place.",
	"input/much-metadata":         "A NATS client takes 64 KiB of headers, which the id of the message is in.",
	"input/names":                 "A stream of JetStream has the topic's name in watermill-nats, and cannot have blanks, slashes, dots or stars in it. A subscription that could not be made is waited for by Close, which gives up then and leaves the connection open.",
	"input/payloads":              "A message of NATS may be 1 MiB with its headers, as servers have it by default.",
	"pubsub/address":              "A watermill publisher can publish to a topic, that is to all groups, so that the door has no address for one of them.",
	"pubsub/group-declared":       watermillNATSGroups,
	"pubsub/group-keeps":          watermillNATSGroups,
	"pubsub/names-apart":          watermillNATSGroups,
	"queue/keeps":                 watermillNATSDurable,
}

var (
	watermillNATSSometimes  = map[string]string{}
	watermillKafkaSometimes = map[string]string{}
)

var watermillKafkaNotes = map[string]string{
	"durable/clients-go-on":       "watermill-kafka tells nobody who has a message in hand that its session is lost: it waits for the ack first, and the handler may work on what somebody else has got by then. The rule ends there, with the rest in the queue.",
	"input/metadata-does-nothing": "_watermill_message_uuid is a header of watermill-kafka. Metadata of that name is refused, but with an error of no type.",
	"input/names":                 "A topic of Kafka has the topic's name in watermill-kafka, and cannot have other characters than a-z, A-Z, 0-9, dots, dashes and underscores in it. The broker says so, with an error of no type.",
	"input/payloads":              "A message of sarama may be 1 MiB with its headers, as it is by default.",
	"pubsub/address":              "A watermill publisher can publish to a topic, that is to all groups, so that the door has no address for one of them.",
	"pubsub/group-declared":       "A consumer group begins with its first member: at the oldest message of the topic, with what was published before the group was declared, or, configured otherwise, after all that came before that member.",
	"pubsub/names-apart":          "A topic of Kafka has the topic's name in watermill-kafka, which has to be ASCII.",
}
