// Package jetstream is an adapter for NATS JetStream: a server elsewhere, of version 2.12 or later,
// or one in this process, so that a single program has durable queues with nothing installed.
//
//	import _ "github.com/motifmq/motif/adapters/jetstream"
//
//	bus, err := patterns.Open(ctx, "jetstream:///var/lib/shop")
//
// It is a module of its own, because the server is a part of it.
//
// # URLs
//
// The package registers the schemes jetstream, nats and tls with [adapters.Open]:
//
//	jetstream:///folder              the server in this process, with its data in the folder
//	nats://user:password@host:4222   a server elsewhere
//	nats://token@host:4222           with a token
//	tls://host:4222                  over TLS
//
// A folder is made if it is missing, and one process at a time has it open: others get
// ErrUnavailable. The drivers of one folder in a process share its server, which ends with the last
// of them. Query parameters of jetstream:
//
//	sync=always         each message is on the disk before it is confirmed (slower); else the
//	                    server writes it at once, and has the system sync every two minutes
//	listen=host:port    other programs may connect, with no login
//
// And of nats and tls:
//
//	server=host:port    a further server of the cluster; may be given several times
//	creds=file          a credentials file, or
//	nkey=file           the file of an NKey's seed
//	ca=file             certificate authorities to trust, in place of the system's
//	replicas=3          of the streams that are made: 1 (the default) to 5
//
// Everything else in the URL is refused with ErrInvalid.
//
// # Delivery semantics
//
// At least once: a message that Publish took is in each queue that it was routed to. A server that
// is killed loses nothing. One whose machine loses power may lose the last two minutes, unless it
// syncs always or the streams have replicas.
//
// Claimed is all but what these take, which is refused by name: MaxLength (CanLimit), because the
// server counts, and may drop, what consumers hold; priorities (CanPrioritize); a single active
// consumer (CanSingleActive); and taking back what is delayed, and messages that are unique
// (CanCancel, CanUnique). In detail:
//
//   - Publishers route. The bindings of an exchange are one record at the server, read at the
//     beginning of each Publish. A record is one message, so an exchange has some ten thousand
//     bindings at most. Copies for several queues are not stored in one step: if some are when the
//     call fails, the error is ErrUnconfirmed, or ErrNacked.
//   - A message is in hand as long as its driver says so, three times in ten seconds. A driver that
//     lost its connection gives back by itself, once it has a new one, what it held. What a client
//     held that died comes to others up to ten seconds later.
//   - What is given back comes before all that was not delivered yet, in the order in which it is
//     given back, and counts as returned, even if nobody had received it. Remaining of what Get
//     took counts what other clients gave back as if it were not there.
//   - A Delay is kept by the server. It is as good as the clocks of publisher and server, and may
//     be some tenths of a second longer. What is delayed on its way to an exchange, or to a queue
//     that does not exist yet, waits in a queue of its own and is routed by any driver that is
//     connected then: within a second by one that has published so, else within half a minute. With
//     none connected it is late. If one of the exchange's queues refuses it then, it is routed
//     again, up to a minute later each time, and the others get another copy. A reply cannot be
//     delayed.
//   - An expired message is never delivered. It leaves its queue when it gets to the head while
//     somebody reads, and, where it becomes a dead letter, also when nobody does, up to five
//     seconds late, as long as a driver is connected that declared the queue. Time to live begins
//     when the server stores the message, by its clock; the receiver's clock decides.
//   - A dead letter has the metadata [MetadataFirstDeathReason] and [MetadataFirstDeathQueue]. It
//     is sent to its queue before the original is acknowledged: a connection that is lost in
//     between makes it two.
//   - A private queue is in the server's memory, outlives short interruptions, and goes half a
//     minute after its client died.
//   - An auto-delete queue goes with the last consumer that is stopped or whose driver is closed.
//     After one that died it stays until the next one comes and goes.
//   - Settling is not confirmed by the server. If the connection is lost right after, or the server
//     that leads the queue leaves its cluster, in order or not, the message may come again.
//   - The server counts what was given back with what is in hand. So whoever inspects a queue asks
//     the drivers what they hold, and one that does not answer within a quarter of a second holds
//     nothing: Ready has that, and a Browse shows it. Users need the right to the subjects
//     motif.holders.> for it. A Browse takes nothing: the server reads one message after another
//     from its store. A Purge acknowledges what it takes, in batches; if its client dies, the last
//     one comes again.
//   - What the server does not allow this user is [adapters.ErrAccess], and logged once a minute.
//     It ends a subscription; a login is tried again.
//   - Nothing is dropped for having been there before: Nats-Msg-Id is not used.
//   - A payload may be as large as the server allows (max_payload, 1 MiB by default; 8 MiB in this
//     process), with the metadata. A larger one is ErrTooLarge.
//
// The driver makes one connection, and another one whenever it is lost, until it is closed.
// Consumers that are full notice that their queue was deleted when they settle.
//
// # Wire format
//
// A queue is a stream MOTIF_Q_name, with what is not a-z, 0-9, '_' or '-' in the name as '=' and
// two hexadecimal digits, so that orders.eu is orders=2eeu; a name that gets too long is "=h" and
// its SHA-256 sum. Whoever publishes to the subject motif.q.name.m.q publishes to the queue.
// Exchanges are records in the stream MOTIF_X.
//
// The payload is the payload. All else is JSON in the header Motif: id, metadata, key and the
// properties, with times in microseconds. If it is longer than 16 KiB it is before the payload, and
// the header Motif-Inside has its length. What comes without either was published by another
// program: its headers are its metadata.
//
// # Escape hatches
//
// There are none: a NATS client of your own sees the streams.
package jetstream
