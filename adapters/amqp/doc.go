// Package amqp carries messages over RabbitMQ (3.10 and later), by AMQP 0-9-1.
//
//	driver, err := adapters.Open(ctx, "amqps://user:password@broker.example.com/shop")
//
// A [Driver] has every ability but two: it cannot take a delayed message back (CanCancel), nor drop
// what was sent twice (CanUnique). It reconnects by itself until it is closed, and then declares
// and subscribes again. A message that was in hand when its connection was lost can no longer be
// settled: Settle returns ErrStaleDelivery.
//
// # URLs
//
//	amqp://user:password@host:port/vhost?parameters
//	amqps://...
//
// The default port is 5672, or 5671 with TLS, and the default vhost "/". Without a user it is the
// one that the client certificate names, or else guest. Without TLS a password is sent to the
// loopback only, and to hosts that are named. Parameters:
//
//	address=host:port    another node of the same broker; any number of them
//	management=https://host:15671   the management API, see Config.Management
//	migrating=queue      a queue that is about to be moved, see Config.Migrating; any number of them
//	name=...             the connection's name in the broker's tools (motif)
//	heartbeat=30s        see Config.Heartbeat
//	queue_type=classic   see Config.QueueType
//	watermill_uuid=true  see Config.WatermillUUID
//	insecure_host=host   allows a login without TLS at that host; any number of them
//	retry_connect=true   waits for a broker that is not up yet, as long as the ctx of Open allows
//	ca_file=...          the authorities to trust, instead of the system's
//	server_name=...      the name that the broker's certificate must have
//	cert_file=..., key_file=...   the client's own certificate
//
// Other parameters are refused. [Config] has more settings; [Connect] takes one, and [ParseURL]
// makes one from a URL.
//
// # Delivery semantics
//
// At least once: Publish returns nil when RabbitMQ has confirmed the message. What follows is
// particular to RabbitMQ.
//
// Queues and exchanges:
//
//   - Durable queues are quorum queues, with the exceptions that [Config].QueueType lists. No queue
//     is declared that RabbitMQ 4 refuses.
//   - Exchanges are durable, and are never deleted. One that somebody else declared with other
//     properties is used as it stands if its kind is right.
//   - Priorities count in queues with a MaxPriority: a quorum queue from RabbitMQ 4.3 on if that is
//     at most 31, else a classic one. A queue that was declared before an upgrade is used as it is.
//     A message to a queue that this driver has declared or consumed counts as the queue's
//     MaxPriority at most, which may be 0. For other queues, Passive ones and exchanges the
//     priority is sent as it is.
//   - A declaration takes several steps: one that is refused with ErrMismatch may have made the
//     exchange and the dead-letter queue, but has not changed what existed.
//   - RabbitMQ knows a quorum queue before it works, and closes the connection of a client that
//     consumes from it then. This driver declares a queue once at a time, and asks one that may be
//     new to another process whether it works, on a connection made for that ("check" at the end of
//     its name), which is closed when nothing was asked for 5 s. A message that came in that moment
//     goes back, marked as redelivered. Without an answer it waits for 50 ms (before 4.3, 150 ms,
//     and more where declarations take long). The first subscription of a connection that carries
//     nothing else does not ask. If a queue is asked or consumed too early its connection is lost,
//     without a word but at the broker, which logs the error 541. Any other connection that is lost
//     nevertheless, which is rare, is made again, too.
//   - Dead letters of quorum queues are moved at least once: a letter leaves its queue when the
//     next one has it, and waits if there is none. RabbitMQ cannot do that for classic queues, nor
//     together with DropHead: there a node that is lost in between loses the letter.
//   - A classic queue with a MaxLength that refuses publishes may hold more than its limit when its
//     node starts, messages in hand included. It then drops the oldest, or dead-letters them, as
//     RabbitMQ (3.10) does.
//
// Publishing:
//
//   - A publish that waits for its confirm when the connection is lost, or when ctx ends, is
//     ErrUnconfirmed. One that waits for a connection, for room, or for a broker that blocks
//     publishers is ErrUnavailable: it was not sent.
//   - The first publish to a queue on a connection goes alone: the next ones wait for its confirm.
//   - Publishing needs the right to write only. An exchange, or the queues of a delay, that may not
//     be declared are used as they stand. If they are missing, that is ErrAccess.
//   - A publish for which RabbitMQ would close the channel or the connection is refused with
//     ErrInvalid: a TTL over 49 days, metadata larger than a frame.
//   - What RabbitMQ closes the channel for nevertheless fails that publish only, with
//     [adapters.ErrTooLarge], [adapters.ErrAccess] or ErrInvalid: the first publish to an exchange,
//     and a message larger than any before it on the connection, go alone on their channel until
//     RabbitMQ has processed them. A size limit is remembered for the connection, a missing right
//     for 10 s. When a right is taken away, publishes that were behind the refused one are
//     ErrUnavailable with PublishAsync, and sent again otherwise.
//   - A message that RabbitMQ nacks is sent again a few times within a second before it is
//     ErrNacked, unless the driver has declared its queue with a MaxLength, or sending again did
//     not help within the last minute. So queues that are new, or going away, are not noticed: what
//     is sent to a private queue or reply address that is gone is dropped, or ErrUnroutable if it
//     is Mandatory.
//   - Sending again to a queue makes no second copy. An exchange may have put the message into
//     other queues before; RabbitMQ (4.3) nacks it for the moment in which a subscriber is cut off,
//     or closes the channel with 506, where it does not say for which of those that are pending.
//     The second copy is marked as Redelivered, may come later than messages published after it,
//     and is counted in [Driver.Resent]. In a batch, or with PublishAsync, what a queue nacks
//     that worked before fails at once, to keep the order, and so does what was pending for queues
//     when their channel was closed. What is beyond 64 MiB in flight with PublishAsync is not sent
//     again.
//   - A reply goes to direct reply addresses and server-named queues only, unless
//     [Config].AllowReplyTo allows more: the address is the caller's choice.
//   - What is sent to a direct reply address that is gone is dropped, even if it is Mandatory:
//     RabbitMQ does not return it. An address that cannot be parsed is ErrInvalid, because RabbitMQ
//     (up to 4.0) closes the connection for it. Before 3.12 it also does so for the address of a
//     caller whose node is down, and for some forged ones. Replies to such addresses have no TTL:
//     they wait in no queue.
//
// Delays and TTL:
//
//   - A delay is rounded up to a tenth of a second, and each queue on the way adds a few
//     hundredths. TTL does not count while the message is delayed, nor afterwards, because RabbitMQ
//     cannot restore it: only the receiver is told. A reply cannot be delayed.
//   - If a queue is full when a delayed message is due, the message arrives within 3 minutes of
//     there being room, or, if the queue's node is starting just then, of its being up. Meanwhile
//     other messages delayed to the same queue or exchange may wait, too, and nothing else. A
//     message that has nowhere to go when it is due is dropped.
//
// Receiving:
//
//   - Settling does not wait for the broker: an acknowledgement is sent at most a millisecond
//     later, together with others, and sooner if it holds up deliveries. One of a batch that is
//     being settled waits for the next for at most 50 ms.
//   - RabbitMQ does not limit how often a message is delivered (x-delivery-limit is 2147483647),
//     because it counts shutdowns, too: package patterns has a limit for lost workers.
//     Delivery.Returned is RabbitMQ's own count for quorum queues, and -1 for classic ones.
//   - Browse has to take messages, and gives them back at once: each counts as returned once more
//     (Delivery.Returned), which before RabbitMQ 4.3 counts against the delivery limit of a queue
//     that somebody else declared with one, and package patterns handles alone what has returned
//     twice. So look at dead letters, not periodically at a queue that is worked on. The order
//     stays, with two exceptions in quorum queues: where more messages than are looked at have come
//     back before, those go behind the rest of them; and if the connection is lost meanwhile, or
//     the process dies, more than 32 come back in any order.
//   - Inspect has Oldest for classic queues only: RabbitMQ does not report it for quorum queues.
//   - Delete looks at the conditions first, and then deletes: RabbitMQ has none for quorum queues.
//   - A message that is held for longer than RabbitMQ's consumer timeout (30 minutes unless an
//     operator says otherwise) is taken back, and with it all that its subscription holds: that is
//     [adapters.ErrConsumerTimeout] and an [Event] of kind TimedOut. The subscription goes on, on
//     another channel. RabbitMQ 4.3 has no such timeout for classic queues; for quorum queues it is
//     Source.HoldTime if that is set.
//   - When a node of a cluster dies, RabbitMQ 4.3 returns what its consumers hold after 60 s
//     (consumer_disconnected_timeout, a setting, policy or queue argument of the operator's), and
//     earlier versions return it at once.
//   - Stop and Close unbind private subscriptions from their exchange first.
//   - RabbitMQ cancels the consumers of a queue that is deleted, and subscriptions begin again
//     50 ms later. If somebody declares the queue again at once, RabbitMQ (3.10) may not cancel a
//     consumer that is Passive, or one of a quorum queue, and drop what it delivers to it: those
//     messages come after a reconnect.
//
// Errors:
//
//   - An operation that RabbitMQ closes the connection for is tried once more, on a connection of
//     its own where others could suffer again, and fails with RabbitMQ's reason: ErrUnsupported,
//     ErrInvalid or [ErrLimit]. Subscribe to, or Get from, a stream is ErrUnsupported before that.
//   - Transient errors are [ErrInUse] (another client owns a queue, or consumes from it
//     exclusively) and [ErrLimit] (of connections, channels or queues). Both are ErrUnavailable.
//     Subscribe returns them; an existing subscription is tried again. Where a user may have few
//     channels, publishes share them.
//   - What the broker refuses this user is [adapters.ErrAccess]. A subscription that may not be
//     declared again after a reconnect ends with it; a login is tried again.
//   - A broker that is older than RabbitMQ 3.10, or not RabbitMQ, is reported once, in the log and
//     as an Event. On 4.2.6 and 4.3.0 Passive needs the right to configure. What a broker has
//     turned off, such as a type of queue, is ErrUnsupported.
//
// # Wire format
//
// A queue of the seam is a queue of the same name, reached through the default exchange; a group's
// queue is called name:group. Private queues and Reply sources are exclusive queues named by the
// broker; ReceiveReplies uses direct reply-to. A message is an AMQP message: UUID is the
// message-id, Payload the body, Metadata headers that are strings, and Properties the properties of
// the same names (TTL is expiration, Transient delivery-mode 1). Timestamps are in whole seconds.
// Headers that are added, always as strings:
//
//	_watermill_message_uuid   the UUID again, where watermill-amqp has it: see Config.WatermillUUID
//	motif-attempt             Properties.Attempt, from 2 on
//	motif-priority            Properties.Priority, if the broker is sent another
//	motif-key                 Publication.Key of a message that is sent to a queue
//	motif-again               of a message that may be in the queue already
//	motif-seq                 of a mandatory message, while another of its id is in flight
//	motif-delay-...           of a message that was delayed
//	motif-ttl                 Properties.TTL of one that was delayed, or is Lasting
//	motif-user-id             the user_id of a message of another user's that is sent on
//	motif-metadata-...        metadata whose name means something to the broker or to Motif: x-..., CC, BCC, those above
//
// Other programs' messages are taken as they are: without a message-id the UUID is that of
// watermill-amqp, or "", and headers of other types are formatted as strings, tables and arrays as
// JSON. Published again with its Properties, such a message goes on as it came, byte by byte,
// except for what was changed: Properties.Foreign holds the rest. What the broker would act on
// again is left out (CC, x-death, another user's user_id). x-death says where a message died, as in
// package memory. Delayed messages wait in quorum queues, whatever the QueueType: in one for each
// delay, rounded up by 5 % at most, and destination, such as motif.delay.1100ms.queue.NAME or
// motif.delay.1100ms.exchange.NAME, at most 32 of a driver for a destination; others in
// motif.delay.00 to 24 and then motif.delay.queue.NAME or motif.delay.exchange.NAME. These are
// declared, together with exchanges, when they are first needed, and never deleted.
//
// # Escape hatches
//
// [Driver.Do] runs a function with an *amqp091.Channel. errors.As finds the *amqp091.Error behind a
// failure, also in the cause of a message's context. [Driver.Health] and [Config].OnEvent report on
// connections.
package amqp
