// Package cloudevents has queues and exchanges carry CloudEvents 1.0, by the JSON event format and
// the AMQP protocol binding of https://cloudevents.io, so that programs without Motif can send and
// receive them.
//
//	orders := patterns.NewWorkQueue[Order](bus, "orders", cloudevents.Binary("/shop"))
//	err := orders.Send(ctx, order, patterns.Type("order.placed"))
//
// Handlers are what they were, functions of an Order; [FromContext] returns the attributes of the
// event. Or the payload is an [Event], which has them beside its data.
//
// The type of an event is that of the message ([patterns.Type]), or what [patterns.WithTypes] says,
// which also decodes events by their type. Its id is that of the message, its source that of the
// queue's option, its time the present; [Subject] and [Attribute] give it others. An Event says all
// that itself, if it does.
//
// Both modes are received, whichever is sent, with the attributes in headers that begin with
// "cloudEvents:", "cloudEvents_" or "ce-". What is no valid event does not decode: it goes to the
// dead letters, with a reason that names what is missing. Batches and event formats other than JSON
// are refused so too.
//
// Calls ([patterns.RPC]) are no events.
package cloudevents
