// Package amqp carries messages over RabbitMQ (3.10 and later), by AMQP 0-9-1.
//
//	driver, err := adapters.Open(ctx, "amqps://user:password@broker.example.com/shop")
//
// A [Driver] has every ability. It connects again by itself, for ever, and
// then declares and subscribes again; what was in hand by then can no longer
// be settled, and says so.
//
// # URLs
//
//	amqp://user:password@host:port/vhost?parameters
//	amqps://...
//
// The port is 5672, or 5671 with TLS, the vhost "/" if there is none, and
// without a user it is guest, or whom the client certificate names. A password goes without
// TLS to the loopback only, unless its host is named. Parameters:
//
//	address=host:port    another node of the same broker; any number of them
//	management=https://host:15671   the management API, see Config.Management
//	name=...             what the broker's tools call the connection (motif)
//	heartbeat=30s        see Config.Heartbeat
//	queue_type=classic   see Config.QueueType
//	watermill_uuid=true  see Config.WatermillUUID
//	insecure_host=host   allows a login without TLS at that host; any number of them
//	retry_connect=true   waits for a broker that is not there yet, as long as the ctx of Open allows
//	ca_file=...          whom to trust, instead of the system's authorities
//	server_name=...      the name that the broker's certificate must have
//	cert_file=..., key_file=...   the client's own certificate
//
// Other parameters are refused. [Config] has more, and [Connect] takes it; so
// does [ParseURL] for what is in a URL.
//
// # Delivery semantics
//
// At least once: Publish returns nil when RabbitMQ has confirmed the message.
// What is special:
//
//   - Durable queues are quorum queues, with exceptions that [Config].QueueType
//     lists. No queue is ever declared that RabbitMQ 4 refuses.
//   - Priorities count in queues with a MaxPriority: quorum queues from RabbitMQ 4.3 on, if it is at
//     most 31, else classic. One that was declared before an upgrade is used as it is. What
//     is published to a queue counts as its MaxPriority at most, or as 0 if that is 0, where the driver
//     has declared or consumed it itself; of a Passive one, or somebody else's, it knows nothing, and
//     sends the priority as it is. So it does through an exchange.
//   - Exchanges are durable, and stay. One that somebody else declared otherwise
//     is used as it stands if its kind is right.
//   - A publish that waits for its confirm when the session is lost, or ctx
//     ends, is ErrUnconfirmed. One that waits for a session, or for room, or while the
//     broker blocks publishers, is ErrUnavailable: it was not sent.
//   - Settling does not wait for the broker: an acknowledgement goes to it at most a
//     millisecond later, together with others, and sooner if it holds up deliveries.
//   - How often a queue delivers a message is not limited by RabbitMQ (x-delivery-limit is
//     2147483647), which counts shutdowns, too: package patterns has a limit for lost workers.
//     Delivery.Returned is RabbitMQ's own count for quorum queues, and -1 for classic ones.
//   - Browse has to take messages, and gives them back at once: each counts as returned once more
//     (Delivery.Returned), which before RabbitMQ 4.3 counts against the delivery limit of a queue
//     that somebody else declared with one, and package patterns handles alone what has returned
//     twice. So look at dead letters, not periodically at a queue that is worked on. The order stays,
//     with two exceptions in quorum queues: where more messages than are looked at have come back
//     before, those go behind the rest of them; and if the connection is lost meanwhile, or the
//     process dies, more than 32 come back in any order.
//   - Inspect tells of Oldest for classic queues only: RabbitMQ knows no timestamps of quorum queues.
//   - Delete looks at the conditions first, and then deletes: quorum queues know none.
//   - A message that is held for longer than RabbitMQ's consumer timeout (30 minutes, unless an
//     operator says otherwise) comes back, and with it all that its subscription holds: that is
//     [adapters.ErrConsumerTimeout] and an [Event] of kind TimedOut. The subscription goes on, on
//     another channel. What a consumer holds whose node of a cluster dies comes back after 60 s
//     on RabbitMQ 4.3 (consumer_disconnected_timeout, a setting, policy or queue argument of
//     the operator's), and at once before. RabbitMQ 4.3 has no such timeout for classic queues, and for quorum
//     queues that of Source.HoldTime, if it is set.
//   - Dead letters of quorum queues are moved at least once: a letter leaves
//     its queue when the next one has it, and waits if there is none. RabbitMQ cannot do that for classic queues,
//     nor together with DropHead, where a node that is lost in between loses it.
//   - A delay is rounded up to a tenth of a second, and a few hundredths are
//     added by each step of the way. TTL does not count while the message waits,
//     nor afterwards: RabbitMQ cannot give it back. It is only told to the receiver. An
//     answer cannot be delayed.
//   - A queue that is full when a delayed message is due gets it within 3
//     minutes of there being room, or, if its node is starting just then, of its being up. Meanwhile what is delayed to the same queue (or, if it
//     was sent to an exchange, to that) may wait, too, and nothing else. What has nowhere to go when it is due is dropped.
//   - A publish is refused, with ErrInvalid, that RabbitMQ would close the
//     channel or connection for: TTL over 49 days, metadata larger than a frame.
//   - What RabbitMQ closes the channel for all the same ends that publish alone, with
//     [adapters.ErrTooLarge], [ErrAccess] or ErrInvalid: the first to an exchange, and a message that is larger
//     than all before in a session, go alone on their channel until RabbitMQ has come to them. A limit of the size is
//     remembered for the session, a right that is missing for 10 s. Of others in flight when a right is taken away, those
//     that were behind it are ErrUnavailable with PublishAsync, and sent again otherwise.
//   - To publish takes the right to write alone. An exchange, or the way of a delay, that may not be declared is used
//     as it stands; what is missing and may not be declared is ErrAccess.
//   - What RabbitMQ closes the connection for is tried once more, with a connection of its own where others could
//     suffer again, and ends with RabbitMQ's reason: ErrUnsupported, ErrInvalid or [ErrLimit]. A stream is ErrUnsupported
//     for Subscribe and Get, before that.
//   - What passes is [ErrInUse] (another consumes a queue exclusively, or owns it) or [ErrLimit] (of
//     connections, channels or queues), which are ErrUnavailable. Subscribe says so; a subscription that was there before is
//     tried again. Where a user may have few channels, publishes share them.
//   - An answer goes to direct reply addresses and server-named queues only, unless
//     [Config].AllowReplyTo has more: the address is the caller's choice.
//   - What is sent to a direct reply address that is gone is dropped, also if it is
//     Mandatory: RabbitMQ does not tell. One that cannot be read as such is ErrInvalid:
//     RabbitMQ (up to 4.0) closes the connection for it. Before 3.12 it does so, too, for the
//     address of a caller whose node is down, or that was made up with care. Answers there
//     have no TTL: they wait in no queue.
//   - What RabbitMQ refuses is sent again a few times within a second before it is ErrNacked, unless
//     the queue has a MaxLength that the driver has declared, and after that was in vain, for a
//     minute. So queues that are new, and those that are going, are not noticed: what is sent to a
//     private queue or reply address that is gone is dropped, or ErrUnroutable if it is Mandatory. It makes
//     no second copy where it was for a queue. An exchange may have put a message into others
//     before; RabbitMQ (4.3) refuses it for the moment in which a subscriber is cut off. The second copy is marked as
//     Redelivered, may come later than what was published after it, and is counted: [Health].Again. For
//     a batch or PublishAsync a queue that was good before is believed at once, to keep the
//     order; and what is PublishAsync beyond 64 MiB in flight is not sent again.
//   - The first publish to a queue in a session goes alone: the next ones wait for its confirm.
//   - RabbitMQ knows a quorum queue before it works, and closes the connection of who consumes it then. This
//     driver declares a queue once at a time, and gives one that may be new to another process 50 ms
//     (before 4.3: 150, and more where declarations take long). The rare connection that is lost all the same comes back.
//   - Stop and Close take private subscriptions from their exchange before they go.
//   - Subscriptions to a queue that is deleted are told, and begin again 50 ms later. Where
//     somebody makes the queue again at once, RabbitMQ (3.10) may not tell one that is Passive,
//     or to a quorum queue, and drop what it delivers to it: that comes after a reconnect.
//   - A declaration takes steps: one that is refused with ErrMismatch may have made the
//     exchange and the dead-letter queue, but has not changed what there was.
//   - A queue with a MaxLength that refuses publishes, of classic type, which holds more than that
//     when its node starts, in hand included, drops its oldest messages then (or
//     dead-letters them), as RabbitMQ (3.10) does.
//   - A broker that is older than RabbitMQ 3.10, or is none, is logged, and an Event, once. On 4.2.6 and
//     4.3.0 Passive takes the right to configure. What a broker has turned off, such as a
//     type of queue, is ErrUnsupported.
//   - What the broker refuses to this user is [ErrAccess]. A subscription that
//     may not be declared again after a reconnect ends with it; a login is tried again.
//
// # Wire format
//
// A queue is a queue of its name, reached through the default exchange; a group's is called
// name:group. Private ones and Reply sources are exclusive queues named by the broker;
// ReceiveReplies takes direct reply-to.
// The message is an AMQP message: UUID is message-id, Payload the body,
// Metadata headers of text, and Properties the properties of the same names
// (TTL is expiration, Transient delivery-mode 1). Timestamps are of whole seconds. Headers
// that are added, always as text:
//
//	_watermill_message_uuid   the UUID again, where watermill-amqp has it: see Config.WatermillUUID
//	motif-attempt             Properties.Attempt, from 2 on
//	motif-priority            Properties.Priority, where the broker is told another
//	motif-key                 Publication.Key of a message that is sent to a queue
//	motif-again               of a message that may be in the queue already
//	motif-seq                 of a mandatory message, while another of its id is in flight
//	motif-delay-...           of a message that was delayed
//	motif-ttl                 Properties.TTL of one that was delayed, or is Lasting
//	motif-user-id             the user_id of a message of another user's that is sent on
//	motif-metadata-...        metadata whose own name would mean something: x-..., CC, BCC, and the names above
//
// What others send is taken as it is: without a message-id the UUID is that of
// watermill-amqp, or "", and headers of other types are rendered as text, tables and
// arrays as JSON. Published again with its Properties it goes on as it came, byte by byte, in all that was not
// changed: Properties.Foreign has the rest. What the broker would act on again does not (CC, x-death,
// another user's user_id). x-death tells where a message died, as in package memory. Messages that wait for
// their Delay are in quorum queues motif.delay.00 to 24, whatever the QueueType, and then in one
// for each destination, motif.delay.queue.NAME or motif.delay.exchange.NAME. They are
// declared when they are first needed, together with exchanges; nothing deletes them.
//
// # Escape hatches
//
// [Driver.Do] runs a function with an *amqp091.Channel. errors.As finds the
// *amqp091.Error behind a failure, also in the cause of a message's context.
// [Driver.Health] and [Config].OnEvent tell about connections.
package amqp
