// Package kafka is an adapter for Apache Kafka 4.2 or later, on share groups (KIP-932): Kafka's
// queues, in which each message is acknowledged by itself.
//
//	import _ "github.com/motifmq/motif/adapters/kafka"
//
//	bus, err := patterns.Open(ctx, "kafka://host:9092")
//
// It is a module of its own, because of its client, franz-go.
//
// # URLs
//
// The package registers the schemes kafka and kafkas with [adapters.Open]:
//
//	kafka://host:9092                  a broker, from which the others are learned
//	kafka://user:password@host:9092    with a login, by SASL
//	kafkas://user:password@host:9092   over TLS
//
// Query parameters:
//
//	broker=host:port     a further broker to begin with; may be given several times
//	sasl=scram-sha-512   how to log in: plain (the default), scram-sha-256 or scram-sha-512
//	ca=file              certificate authorities to trust, in place of the system's; with kafkas
//	replicas=3           of the topics that are made; else as many as the broker's default says
//
// Everything else in the URL is refused with ErrInvalid.
//
// # Delivery semantics
//
// At least once: a message that Publish took is written, by all replicas in sync (acks=all, by an
// idempotent producer), to the topic of each queue that it was routed to. A broker that is killed
// loses nothing. Kafka leaves it to the system when to write to the disk: what survives when a
// machine loses its power is what other replicas have.
//
// Claimed are fanout, direct and topic exchanges, groups, unbinding, existing exchanges,
// confirms, persistence, mandatory messages, passive use, fair dispatch, delays, dead-letter
// queues and single active consumers: work queues and exchanges work as they do by default, and
// work queues with Partitions. So are health, and looking at queues, comparing, purging and
// deleting them. All else is refused by name:
//
//   - Time to live (CanExpire): what has expired becomes a dead letter also where nobody consumes
//     its queue, and nobody looks at what waits there.
//   - Reply addresses (CanReply) and auto-delete queues (CanAutoDelete), so that RPC is refused: a
//     topic does not go with its consumers, and whoever writes to it is not told that the caller
//     has gone.
//   - Requeueing in place (CanRequeue): what is given back comes before what was not delivered yet,
//     but for a message that has come back so often that it is written anew; see below. So
//     patterns.OrderBy is refused, but not Partitions.
//   - Get (CanGet): to join a share group takes a second, and one that has just been joined does
//     not say whether a queue is empty or what it has is not delivered yet.
//   - Priorities, bounded queues, cancelling and unique messages.
//
// In detail:
//
//   - A queue is a topic with one partition, and a share group of the same name. So a queue keeps
//     the order in which messages were published until one comes back, and is on one broker.
//   - Publishers route. The bindings of an exchange are the last record that counts in a topic, and
//     the end of that topic is read from its leader at the beginning of each Publish. Copies for
//     several queues are not written in one step: if some are when the call fails, the error is
//     ErrUnconfirmed.
//   - A broker drops a record that was delivered as often as group.share.delivery.count.limit says
//     (5), and tells nobody. So a message that comes for the third time, or when half of the limit
//     is used up, is written to the end of its queue again, counted as returned, before anybody
//     gets it. What is lost is a record whose last deliveries all fail before a driver has seen
//     them: three clients in a row that die, or lose their connection, in the milliseconds in which
//     they are sent it. Whoever sets the limit to 10 makes that five.
//   - A message is in hand as long as its driver says so, three times in the broker's lock time
//     (group.share.record.lock.duration.ms, 30 s). A lost connection gives back at once what it
//     held. What a client holds that stands still comes to others after the lock time.
//   - Behind a message that is in hand the broker delivers only so many more
//     (group.share.partition.max.record.locks, 2000), and a queue has at most so many subscriptions
//     (group.share.max.size, 200).
//   - Settling is told to the broker with the next request: up to a tenth of a second later, or a
//     quarter for the last message. If the connection is lost before, the message comes again.
//   - A topic keeps what was settled until a subscription drops it, ten seconds later or when it
//     ends. What one message holds up is kept behind it.
//   - What is delayed waits in topics of its own, and any driver moves it on that has delayed
//     something, or has been connected for half a minute at most. With none connected it is late.
//     It is never early, as far as the clocks of publisher and mover agree, and some tenths of a
//     second late. It is written once more for each topic on its way: five times for a delay of ten
//     seconds, ten times for an hour. Each such topic in use takes a driver two connections, and
//     four requests a second. When a mover dies others have what it held, up to a hundred messages
//     of each topic: at once, or after the lock time if it stands still. What it had written on
//     but not settled is double then, and says that it is redelivered.
//   - What is delayed, and its destination refuses when it is due (it is too large for it, or not
//     allowed), is tried again four times, in some two minutes. Then it is a dead letter of the
//     queue that it was published to, with the reason "refused"; or, where there is no dead-letter
//     queue, in the queue [Undelivered]. What cannot be written at all is tried until it can.
//   - A dead letter has the metadata [MetadataFirstDeathReason] and [MetadataFirstDeathQueue]. It
//     is written to its queue before the original is settled: a connection that is lost in between
//     makes it two.
//   - What a queue was first declared as is in one of sixteen topics, each a record of all queues
//     that share a hash: there is room for some hundred thousand queues.
//   - A private queue goes when its subscription is stopped or its driver closed. One whose process
//     has died stays until another private subscription to its exchange begins, a minute later.
//   - A message may be 1.25 MiB, with its metadata. A larger one is ErrTooLarge.
//   - A subscription makes two connections, and its first one takes the time that the broker has
//     for assignments (group.share.assignment.interval.ms, a second from Kafka 4.4 on).
//
// What is seen of a queue:
//
//   - What is not settled is exact: the broker says it (the lag of the share group). How much of
//     it is in hand the broker does not say. So each member does with its heartbeats, every five
//     seconds, in the field for its rack: motif-held-3. Other programs' consumers count as holding
//     nothing.
//   - A look shows what is in hand, too. Where the cluster gives rights, it takes ClusterAction
//     for some queues, see [Driver.Browse].
//   - A purge takes what waits as a consumer does, and so the time to join the group.
//   - Only what Motif's names stand for is listed. What is delayed is in no queue.
//
// # Single active consumers
//
// A queue with a single active consumer, as each partition of a queue with patterns.Partitions
// is, has no share group but a classic consumer group, named after its topic and the topic's id.
// All its subscriptions are members, and one of them has the partition, until it leaves or is
// lost: then the one that has been a member for longest. Kafka keeps an offset for the group,
// before which all is settled, and with it a text of ours that says what behind it was settled,
// and how often the rest was delivered. It is committed before a message is delivered for the
// first time. So the next active consumer begins with what the one before held, in order, and
// says how often it came back.
//
//   - What is requeued comes next, at its place, to the same subscription.
//   - Settling is told to the broker up to a tenth of a second later: what was settled in the
//     last moment before a process dies comes again. So may, where a prefetch of more than about
//     300 is settled in great disorder, what is settled behind a message that is not.
//   - A member is lost when the broker has not heard of it for 10 seconds, be it killed, frozen
//     or cut off. A connection that is lost for a shorter time costs nothing. A member that has
//     stood still for longer knows by its own clock that it is none any more, before it hears it:
//     it hands on nothing, and to settle what it has is ErrStaleDelivery. The broker refuses what
//     it commits. A broker has to allow sessions of 10 seconds (group.min.session.timeout.ms,
//     group.max.session.timeout.ms), as it does by default.
//   - The first member of a group waits for others as long as the broker says
//     (group.initial.rebalance.delay.ms, 3 s), and Subscribe with it. Members hear within half a
//     second that others have come or gone, by a heartbeat.
//   - A subscription that is stopped stays active until what it has handed on is settled.
//   - Behind a message that is in hand at most 2000 others are delivered, or a prefetch.
//   - A subscription makes up to four connections.
//
// The driver and each subscription connect again until they are closed.
//
// # Wire format
//
// A queue is the topic motif-q-name, with what is not a-z, 0-9 or '-' in the name as '_' and two
// hexadecimal digits, so that orders.eu is motif-q-orders_2eeu; a name that gets too long is "_h"
// and its SHA-256 sum. An exchange is the topic motif-x-name. What is delayed is in the topics
// motif-delay-0 to motif-delay-9.
//
// The payload is the value, the key is the key, and metadata are headers. All else is JSON in the
// last header, motif: id and properties, with times in microseconds. What comes without it was
// written by another program: its headers are its metadata, and its id is topic and offset.
//
// # Escape hatches
//
// There are none: a Kafka client of your own sees the topics.
package kafka
