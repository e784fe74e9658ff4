package otel

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// What OpenTelemetry calls things. Nothing of its messaging conventions is stable; this file has
// all that follows one version of them, so that to follow the next one is to change it.
//
//	https://github.com/open-telemetry/semantic-conventions/tree/v1.44.0/docs/messaging
const (
	semconvVersion = "1.44.0"
	schemaURL      = "https://opentelemetry.io/schemas/" + semconvVersion
)

// Attributes of the messaging conventions.
const (
	keySystem         = attribute.Key("messaging.system")
	keyOperationName  = attribute.Key("messaging.operation.name")
	keyOperationType  = attribute.Key("messaging.operation.type")
	keyDestination    = attribute.Key("messaging.destination.name")
	keyTemplate       = attribute.Key("messaging.destination.template")
	keyGroup          = attribute.Key("messaging.consumer.group.name")
	keyMessageID      = attribute.Key("messaging.message.id")
	keyBodySize       = attribute.Key("messaging.message.body.size")
	keyBatchCount     = attribute.Key("messaging.batch.message_count")
	keyRoutingKey     = attribute.Key("messaging.rabbitmq.destination.routing_key")
	keyErrorType      = attribute.Key("error.type")
	keyRPCSystem      = attribute.Key("rpc.system.name")
	keyRPCMethod      = attribute.Key("rpc.method")
	keyRPCStatus      = attribute.Key("rpc.response.status_code")
	typeCreate        = "create"
	typeSend          = "send"
	typeReceive       = "receive"
	typeProcess       = "process"
	typeSettle        = "settle"
	systemRabbitMQ    = "rabbitmq"
	systemRPC         = "motif"
	metricSent        = "messaging.client.sent.messages"
	metricConsumed    = "messaging.client.consumed.messages"
	metricOperation   = "messaging.client.operation.duration"
	metricProcess     = "messaging.process.duration"
	metricCallClient  = "rpc.client.call.duration"
	metricCallServer  = "rpc.server.call.duration"
	headerTraceparent = "traceparent"
	headerTracestate  = "tracestate"
)

// Attributes and metrics that the conventions have no name for.
const (
	keyResult  = attribute.Key("motif.result")  // a patterns.Result
	keyAttempt = attribute.Key("motif.attempt") // of a message: 1 for the first try
	keyRole    = attribute.Key("motif.connection.role")
	keyRetryIn = attribute.Key("motif.retry_in")

	metricSettled         = "motif.settled.messages"
	metricRedelivered     = "motif.redelivered.messages"
	metricInQueue         = "motif.message.time_in_queue"
	metricBusy            = "motif.workers.busy"
	metricWorkers         = "motif.workers"
	metricReconnects      = "motif.reconnects"
	metricBlocked         = "motif.connections.blocked"
	metricLost            = "motif.lost.messages"
	metricTimedOut        = "motif.timed_out.messages"
	metricLateReplies     = "motif.late_replies"
	metricConnections     = "motif.connections.up"
	metricConnectionsDown = "motif.connections.down"
	metricLostReplies     = "motif.lost_replies"
)

// The boundaries in seconds that the conventions recommend for all their durations.
var durationBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// queueBuckets are those of the time in a queue, which may be days.
var queueBuckets = []float64{0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600}

// systemOf is what the conventions call the system behind an adapter.
func systemOf(adapter string) string {
	if adapter == "amqp" {
		return systemRabbitMQ
	}
	return adapter
}

// operationOf names what a publish is for: the verb for what the program sends.
func operationOf(cause patterns.PublishCause, kind adapters.Kind) string {
	switch {
	case cause != patterns.CausePublish:
		return string(cause)
	case kind == adapters.Queue:
		return "send"
	}
	return "publish"
}

// destinationOf returns the name of a destination, in which the conventions put the routing key,
// and a template for it if there are as many names as keys.
func destinationOf(name, key string) (destination, template string) {
	if key == "" {
		return name, ""
	}
	return name + ":" + key, name
}
