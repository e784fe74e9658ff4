package amqp

import (
	"fmt"
	"strings"

	"github.com/rabbitmq/amqp091-go"
)

// optionByArgument names the option behind each argument or property of a queue.
var optionByArgument = map[string]string{
	"x-max-length":              "MaxLength",
	"x-overflow":                "MaxLength, DropOldest or NoDeadLetter",
	"x-message-ttl":             "MessageTTL",
	"x-max-priority":            "MaxPriority",
	"x-delivery-limit":          "MaxPriority, or another client declared it",
	"x-dead-letter-exchange":    "DeadLetter or NoDeadLetter",
	"x-dead-letter-routing-key": "DeadLetter or NoDeadLetter",
	"x-dead-letter-strategy":    "DeadLetter, NoDeadLetter or DropOldest",
	"x-single-active-consumer":  "Partitions",
	"x-queue-type":              "queue_type in the URL, MaxLength or MaxPriority",
	"auto_delete":               "it is the queue of an RPC on one side only, or another client declared it",
}

// mismatchHint says what differs and what to do, where RabbitMQ refused to declare something
// because it exists with other properties; "" if e is another refusal. RabbitMQ's reason is:
// inequivalent arg 'x-max-length' for queue 'orders' in vhost '/': received none but current is the
// value '9' of ...
func mismatchHint(e *amqp091.Error) string {
	_, what, found := strings.Cut(e.Reason, "inequivalent arg '")
	argument, what, _ := strings.Cut(what, "'")
	switch {
	case !found:
		return ""
	case strings.Contains(what, "for exchange"):
		return ": a PubSub is a fanout exchange, a Routed a direct one, a Topic a topic one: use the pattern that fits, or another name"
	}
	option, known := optionByArgument[argument]
	if !known {
		option = "another client declared it"
	}
	return fmt.Sprintf(": what differs is %s: give the same options everywhere, or use the queue as it stands (Passive), or delete it, which loses what is in it", option)
}
