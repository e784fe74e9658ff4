// Package memory is an in-process message broker: a model of RabbitMQ's semantics rather than a
// bag of channels, for tests and for programs that need no broker of their own.
//
//	broker := memory.New()
//	defer broker.Close()
//	driver := broker.Connect()
//
// A [Broker] is the server: exchanges, queues and what waits in them. A [Client] is one connection
// to it, and an [adapters.Driver] with every ability. All of it works inside a testing/synctest
// bubble, where an hour's delay takes no time.
//
// # URLs
//
// The package registers the scheme memory with [adapters.Open]:
//
//	memory:            a broker of this client's own, closed with it
//	memory:name        the broker of that name in this process, shared by all
//	memory://name      clients that open it, and gone with the last of them
//
// A name is of letters, digits, '.', '_' and '-'. Query parameters say what the broker imitates:
//
//	rabbitmq=4.0          a [Version] of RabbitMQ, in place of the [Newest]
//	queue_type=classic    [ClassicQueues]
//
// A named broker that exists already is used as it is by a URL without them; a URL with other
// values is ErrMismatch. Everything else in the URL is refused with ErrInvalid.
//
// # Delivery semantics
//
// At least once: a message that Publish took is in each queue it was routed to, and stays there
// until a consumer settles it, its time or the queue's limit drops it, or the broker is closed. In
// detail:
//
//   - A queue pushes messages to its consumers as they are published, in turn, to each that holds
//     fewer than its prefetch. So a slow consumer with a large prefetch hoards messages, and
//     prefetch 1 is fair.
//   - What was pushed counts as delivered: if its consumer ends it goes back, marked redelivered,
//     even if nobody had received it. In a quorum queue that is before all others, in the order in
//     which messages are given back; in a classic queue to the original place. [Version] says which
//     queues are which, and how each orders priorities.
//   - Expired messages leave at the head of the queue only (of each priority, see [Version]).
//     Behind one that lives longer they wait, counted as ready, but are never delivered.
//   - MaxLength counts the messages that are ready, not those that consumers hold. What these give
//     back is ready again, and DropHead makes room for it; a queue that refuses takes it in any
//     case. DropHead drops the next message to be delivered, which is one of the highest priority.
//   - A dead letter has the metadata [MetadataFirstDeathReason], [MetadataFirstDeathQueue] and
//     [MetadataDeaths], keeps its key and properties, and loses its own TTL unless it is Lasting.
//     One that comes back to a queue where it was, without anybody having rejected it since, is
//     dropped.
//   - A message that waits for its Delay is in no queue. It is routed when its time comes, and
//     dropped if there is nowhere to route it then. A queue that is full by then and refuses it
//     gets it within a second of there being room. Its own TTL does not count any more.
//   - A private queue, or one that is auto-delete, goes with its last consumer, also if that is
//     lost with its session.
//
// # Escape hatches
//
// [Broker.Queue], [Broker.Purge], [Broker.DeleteQueue], [Broker.DeclareExchange], [Broker.Bind] and
// [Broker.DeleteExchange] are what an operator does with RabbitMQ's tools. For a driver that was
// opened by URL, driver.(*memory.Client).Broker() leads to them.
//
// # Faults
//
// [Broker.Cut] and [Client.Cut] drop sessions, [Broker.Restart] restarts the broker, and
// [Broker.Inject] scripts what else goes wrong in production: a refusal, a late or lost confirm, a
// cut after so many messages, a cancelled consumer.
package memory
