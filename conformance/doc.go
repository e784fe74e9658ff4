// Package conformance says what an adapter must do, in rules that are run.
//
// Each rule is a [Case]: an ID, a sentence that must hold, the abilities that it
// is about, and what checks it. The contract is that of package adapters, and
// what package patterns makes of it; the rules hold for any adapter, not for
// RabbitMQ's only. An adapter's own test states what the adapter claims, and
// how to get at its broker:
//
//	func TestConformance(t *testing.T) {
//		open := func(context.Context) (*conformance.Harness, error) {
//			broker := memory.New()
//			return &conformance.Harness{
//				Connect: func(context.Context) (adapters.Driver, error) { return broker.Connect(), nil },
//				Restart: func(context.Context) error { broker.Restart(); return nil },
//			}, nil
//		}
//		conformance.Run(t, open, adapters.Features{Adapter: "memory", Ability: adapters.AllV1 | adapters.CanCancel | adapters.CanUnique})
//	}
//
// [Run] runs each case as a subtest, [Check] does so outside of a test and
// returns a [Report]. Cases run side by side, each with a harness of its own; names
// are never used twice, so that the broker behind may be shared. Those that
// restart, freeze or block the broker run one at a time, after all others.
//
// # Outcomes
//
// A claim is tested both ways. What is claimed must work:
//
//   - [Pass]: the rule holds.
//   - [Fail]: it does not. A failure reads as the rule that is violated, and what
//     was seen instead.
//
// What is not claimed must be refused:
//
//   - [Refused]: an ability that the rule is about is not claimed, and every
//     method that was asked for it said so at once, by an
//     [adapters.UnsupportedError] in the adapter's name. If one did not, that is a Fail.
//   - [NotClaimed]: the ability is a promise, and nothing that a program could ask
//     for; that messages survive a restart is one.
//
// And there is no verdict if a case was not run to its end:
//
//   - [NotApplicable]: the harness has no hook for what the case does to the
//     broker. Only Connect is required; see [Harness].
//   - [NotRun]: the run ended first.
//
// Behind every case stands the history checker, package history: all that the
// case's clients published, received and settled is recorded, what is left in the
// queues is taken out at the end, and a message that was lost, came from nowhere,
// or came again without a reason fails the case, whatever it is about. So does a
// call that outlives its ctx, and a goroutine that outlives its client. A case
// has four minutes.
//
// The cases are tested themselves: by adapters with one deliberate fault each,
// and each must be failed by the case whose rule it breaks.
//
// # The rules
//
// This list is what [Cases] returns.
//
// claims:
//
//   - claims/as-said: Features says what the adapter claims, the same for every client and at all
//     times, also after Close.
//   - claims/getter: An adapter that claims to get single messages is an adapters.Getter, and says
//     at once that a queue is empty.
//   - claims/unbinder: An adapter that claims to unbind is an adapters.Unbinder.
//   - claims/max-delay: A delay longer than the adapter says it can is refused as invalid, and
//     nothing is sent.
//
// publish:
//
//   - publish/confirmed-is-stored: A message whose Publish returned nil is in its queue, even if
//     its publisher is gone right after.
//   - publish/whole: A message arrives as it was published: its id, payload and metadata, its key
//     and its properties.
//   - publish/unroutable: A mandatory message that reaches no queue is ErrUnroutable, in a
//     *PublishError that names it, and is stored nowhere.
//   - publish/unroutable-among-many: With many publishers at the same time, ErrUnroutable comes
//     back for the messages that reached no queue, and for no others.
//   - publish/unroutable-optional: A message that is not mandatory and reaches no queue is no
//     error.
//   - publish/nacked: A queue that is full and refuses is ErrNacked, for the messages that it did
//     not take; it takes more once there is room.
//   - publish/too-large: A message larger than the adapter says it takes is ErrTooLarge; it is not
//     stored, and the client goes on.
//   - publish/invalid: A publication that breaks a rule is ErrInvalid, and nothing is sent.
//   - publish/batch-with-a-bad-one: One bad message does not stop the others of its call, and the
//     error says which it was.
//   - publish/no-messages: To publish no messages is no error.
//   - publish/ended-ctx: With a ctx that has ended Publish sends nothing, and its error wraps that
//     of the ctx.
//   - publish/ended-while-waiting: A publish that waits for a broker that stands still comes back
//     when its ctx ends, and says that the message may be stored.
//   - publish/blocked: While the broker takes no messages a publish waits as long as its ctx
//     allows, and consumers go on.
//   - publish/async: PublishAsync keeps the order of its calls, does not keep their messages, and
//     calls back once for each.
//   - publish/async-outcome: PublishAsync calls back with what became of the message, as Publish
//     would have returned it.
//
// ack:
//
//   - ack/settled-is-gone: A message that was acknowledged is not delivered again, also when its
//     client is gone.
//   - ack/out-of-order: Messages are settled in any order, and each settling is about its own
//     message only.
//   - ack/twice: Settling a message again does nothing and is no error, whatever the outcome; the
//     first one counts.
//   - ack/requeue: A message that is requeued comes again as it was, and says that it was delivered
//     before.
//   - ack/requeue-in-place: A message that is requeued goes back to its place, before those that
//     came after it.
//   - ack/requeue-in-order: Messages that are requeued in the order in which they came keep it.
//   - ack/reject: A message that is rejected where there are no dead letters is gone.
//   - ack/reject-to-dead-letters: A message that is rejected goes to the dead-letter queue as it
//     was, with its key, and says there that it died; once it is sent again it does not.
//   - ack/stale: What was delivered before the session was lost is not settled any more: that is
//     ErrStaleDelivery, and touches nothing that was delivered since.
//   - ack/given-back: What a client holds when it is closed comes to another one, in order and
//     marked redelivered; what it had acknowledged does not.
//   - ack/lost-in-hand: What a client holds when its session is lost is delivered again, in order
//     and marked redelivered.
//   - ack/first-delivery: A message that is delivered for the first time is not marked redelivered.
//   - ack/after-stop: What is in hand when its subscription is stopped can still be settled, and is
//     nobody else's until then.
//   - ack/after-close: When the driver is closed the contexts of messages end with the cause
//     ErrClosed, and settling them is ErrClosed.
//   - ack/unknown-outcome: To settle by an outcome that there is not is ErrInvalid, and the message
//     stays in hand.
//
// queue:
//
//   - queue/one-of-many: Each message of a queue goes to exactly one of its consumers.
//   - queue/fair-dispatch: With prefetch 1 the next message goes to a consumer that is idle, never
//     to one that is busy.
//   - queue/prefetch-holds: A subscription can hold as many unsettled messages as its prefetch, and
//     never holds more.
//   - queue/keeps: A queue keeps what is sent to it until somebody consumes it.
//   - queue/slow-starves-nobody: A consumer that is slow keeps what it holds, and no more: all else
//     goes to the others.
//   - queue/idle-share: No message waits while a consumer has room for it: each gets its share.
//   - queue/late-joiner: A consumer that joins late gets its share of what waits.
//   - queue/publisher-order: What one goroutine publishes to a queue arrives in that order, however
//     many others publish there.
//   - queue/get-in-order: Get says how many messages are left, and what it took is back when
//     Requeue returns, in the order of the requeues.
//   - queue/get: Get takes the next message, and says ErrEmpty when none is ready; what it took is
//     in hand until it is settled.
//   - queue/passive: To use a queue as it stands is ErrNotFound if there is none, and then there is
//     still none.
//   - queue/passive-whatever-it-is: A queue is used as it stands whatever its properties.
//   - queue/redeclare: Declaring a queue again with the same properties changes nothing, and is no
//     error.
//   - queue/mismatch: Declaring a queue again with other properties is ErrMismatch, and the queue
//     stays as it is, with its messages and consumers.
//   - queue/single-active: Of the consumers of a SingleActive queue one gets the messages, and when
//     it is gone another one: first what the one before held, in order.
//   - queue/single-active-is-a-property: To declare a queue as SingleActive that is not, or the
//     other way round, is ErrMismatch, and single messages cannot be taken from one.
//   - queue/auto-delete: An auto-delete queue lives as long as it has a consumer, and is gone with
//     the last one.
//   - queue/isolated-from-publisher: What a publisher does to its message after Publish changes
//     nothing for those who receive it.
//   - queue/isolated-from-receivers: What a receiver does to its message changes nothing for those
//     who receive it after it was requeued.
//   - queue/try-receive: TryReceive, of a subscription that has it, leaves out nothing that the
//     queue has given, and does not wait for more.
//   - queue/stop-and-return: StopAndReturn, of a subscription that has it, gives back in order all
//     that is not settled, what is in hand included.
//   - queue/deleted-under-its-consumer: When its queue is deleted a subscription declares it again
//     and goes on; nobody receives a message that was never sent.
//
// pubsub:
//
//   - pubsub/private-copies: Every private subscription to a fanout exchange gets a copy of what is
//     published after it was made.
//   - pubsub/bound-on-return: When Subscribe has returned the subscription is bound: what any
//     client publishes from then on reaches it.
//   - pubsub/private-gone: A private subscription's copies are gone with it: nobody who subscribes
//     later gets them.
//   - pubsub/private-leaves: When a private subscriber leaves, stopped or with its client, no
//     publisher notices, and groups get every message, twice only if it says so.
//   - pubsub/private-order: A private subscription gets the messages of a publisher in the order in
//     which they were published, in batches or alone.
//   - pubsub/nobody-there: A message that is published while nobody subscribes is no error: it is
//     gone.
//   - pubsub/copies-apart: What a subscriber does to its copy of a message, or writes into it,
//     changes nothing for the others.
//   - pubsub/group-copies: Each group gets one copy of every message, however many members it has.
//   - pubsub/members-compete: The members of a group share its messages, so that one that is busy
//     leaves the rest to the others.
//   - pubsub/group-keeps: A group gets its copies also while none of its members is there, and
//     keeps them until one comes.
//   - pubsub/group-declared: A group that is declared before its first member comes keeps what is
//     published from then on.
//   - pubsub/unbind: A group that is unbound gets nothing more, and keeps what it has; other groups
//     go on, and so does it once it is bound again.
//   - pubsub/address: What is published to the address of a group's subscription, as to a queue,
//     reaches that group alone.
//   - pubsub/names-apart: Exchanges and groups are told apart by their whole names, byte by byte.
//
// routed:
//
//   - routed/exact-key: A subscription to a direct exchange gets the messages with exactly its key,
//     and no others.
//   - routed/bytes: Keys are compared byte by byte: case, spaces, accents and empty words count,
//     and there are no wildcards in a direct exchange.
//   - routed/several-keys: A subscription with several keys gets the messages with each of them, in
//     the order in which they were published.
//   - routed/one-copy: A key that is given twice, or bound again by another member of a group,
//     makes one copy.
//   - routed/groups: Every group that has a message's key gets a copy of it, and no other group.
//   - routed/keys-add-up: The keys of a group add up over its subscriptions: one that comes with
//     other keys takes none away, not when it ends either.
//   - routed/unbind: Unbind takes exactly the keys that it is given from exactly that group, and
//     leaves in the queue what is there.
//   - routed/unbind-missing: To unbind a key that is not bound is no error, and changes nothing.
//   - routed/key-delivered: A delivery has the key that its message was published with.
//
// exchange:
//
//   - exchange/as-it-stands: What is published to an existing exchange goes where the exchange
//     routes it, of whichever kind it is.
//   - exchange/missing: To publish to an existing exchange that does not exist is ErrNotFound and
//     makes none: it can be declared as any kind then, and is used at once.
//
// topic:
//
//   - topic/matrix: A topic subscription gets exactly the messages whose key its pattern matches,
//     by RabbitMQ's rules: * is one word, # any number of them, an empty word counts.
//   - topic/one-copy: A message that several patterns of a subscription match, or of a group, comes
//     once.
//   - topic/groups: Every group with a pattern that matches gets a copy, and no other group.
//   - topic/key-is-text: In the key of a message * and # are plain text.
//   - topic/exploding-pattern: A pattern that is too long, or has more # than a matcher takes well,
//     is refused as invalid, at once and with nothing declared.
//   - topic/long-key: A key of many words is matched at once, also by the patterns that make most
//     work.
//   - topic/unbind: Unbind takes exactly the patterns that it is given, as text but that adjacent #
//     are one, and one that is bound again counts again.
//
// rpc:
//
//   - rpc/correlated: However many calls are under way at once, each is run once and its caller
//     gets its own reply.
//   - rpc/deadline: The function's ctx has the time that its caller has left, and ends with it.
//   - rpc/expired: A request whose caller's time is up before a server is free is not run.
//   - rpc/cancelled: When a caller gives up, the ctx of the function ends at its server, and that
//     of no other call.
//   - rpc/remote-error: An error that the function returns reaches the caller as a RemoteError with
//     its code, and its text where the server exposes it, in which errors.Is finds the error that
//     has the code.
//   - rpc/panic: A panic in the function reaches the caller as a RemoteError that says so, and the
//     server goes on.
//   - rpc/no-server: A call that nobody serves fails with ErrNoServer at once, before the first
//     server has come and after the last one has gone.
//   - rpc/server-dies: When a server dies in the middle of a call another one handles it, and where
//     there is none the caller gets an error by its deadline.
//   - rpc/duplicate-reply: A second reply to a call is dropped and counted.
//   - rpc/late-reply: A reply to a call that was given up is dropped and counted.
//   - rpc/foreign-reply: A reply to a call that was never made reaches no caller: it is dropped and
//     counted.
//   - rpc/address: Each reply subscription has an address of its own, and gets what is sent to it,
//     with correlation id and headers, and nothing else.
//   - rpc/caller-gone: A caller that goes away is no trouble for the server: its call runs once,
//     its reply is lost, and other calls go on.
//   - rpc/too-large: A request or a reply that is too large is an error for the caller, and no
//     trouble for the server.
//
// failure:
//
//   - failure/retried-later: A message whose handler fails is tried again, each time after a longer
//     wait, and never before its time.
//   - failure/attempts-counted: The handler is told which attempt it is: 1, then 2, then 3.
//   - failure/retry-after: With RetryAfter the handler itself says when its message is tried again,
//     and it counts as an attempt.
//   - failure/panic: A message whose handler panics is tried again like any other that failed, and
//     the worker goes on.
//   - failure/rejected: A message that its handler rejects is a dead letter at once, and says why,
//     after how many attempts, where and when it died.
//   - failure/undecodable: A payload that does not decode, or is of a type that nobody knows, is a
//     dead letter at once, as it came; the handler does not see it, and the queue goes on.
//   - failure/limit: A message that fails every time is tried as often as the policy says, not once
//     more or less, and is a dead letter then.
//   - failure/short-behind-long: A message that waits long to be tried again is not in the way of
//     one that waits a short time, nor of new ones.
//   - failure/shutdown: A message whose handler a shutdown interrupts is back in the queue, and
//     this was no attempt.
//   - failure/session-lost: When a session is lost the ctx of the handlers that it delivered to
//     ends, and their messages come again, with no attempt counted and none forgotten.
//   - failure/restart: A message that waits to be tried again survives a restart of the broker with
//     its number of attempts, and so do dead letters with their reasons.
//   - failure/on-receive: With AckOnReceive a message is never handled twice: it is lost with the
//     worker that dies, and given up when the handler fails.
//   - failure/letter-intact: A dead letter has the value, id, key, headers, content type and time
//     of the message that died.
//   - failure/retry-intact: In each of its attempts a message has the id, key, headers and other
//     properties with which it was published.
//   - failure/group-alone: A message that one group failed to handle is tried again by that group
//     alone.
//   - failure/middleware: Middleware wraps every attempt, the bus's outside the subscription's, and
//     what it writes into a message is not in what is tried again.
//   - failure/private: A private subscription retries by itself, unnoticed by others, gives up when
//     the policy says, and goes on.
//   - failure/parked: A dead letter whose handler fails stays among the dead letters, with what it
//     died of, and comes again later.
//   - failure/sent-back: A dead letter that is sent back as it was received is the message that it
//     was, with all its attempts before it, and says since when it has been back.
//   - failure/dead-at-the-broker: A message that the broker itself made a dead letter of has all
//     its attempts before it, wherever it is handled next.
//   - failure/no-letters: What is given up in a queue without dead letters is given to OnDrop and
//     gone, and the queue goes on.
//
// lost:
//
//   - lost/returned: A message that comes back says how often it has, or that nobody counts; one
//     that is new says 0, and how many losses its publisher counted.
//   - lost/returned-by-cut: What a lost session gives back counts as returned, too.
//   - lost/held-too-long: What is held for longer than the broker allows comes again, to whoever is
//     there; all contexts of the subscription's messages end with ErrConsumerTimeout, and to settle
//     late is ErrStaleDelivery, which for the one that was held too long is ErrConsumerTimeout,
//     too.
//   - lost/parked: A message whose worker is lost as often as the limit allows goes to the dead
//     letters, and says so; what was in the same hands is handled.
//   - lost/shutdown: A shutdown loses no worker: a message that is given back by any number of them
//     is no dead letter.
//   - lost/cut: A lost connection loses no worker that lives: a message that came back for any
//     number of them is no dead letter.
//
// limit:
//
//   - limit/ttl: A message is not delivered after its time to live, and those without one are not
//     affected.
//   - limit/ttl-of-a-queue: A queue's MessageTTL holds for every message in it, and the shorter of
//     the two counts.
//   - limit/lasting: A lasting message does not expire, and its time to live counts again when it
//     is sent on as it was received.
//   - limit/expired-to-dead-letters: A message that expires goes to the dead-letter queue, and does
//     not expire there.
//   - limit/delay: A delayed message is not delivered before its time.
//   - limit/cancel: A delayed message that is cancelled is not delivered, and no other message is
//     gone; to cancel what does not wait for its time is ErrNotFound.
//   - limit/unique: A message that is unique for a time has others with its id dropped for that
//     time, which are to the same endpoint and unique themselves; one that is refused does not.
//   - limit/delays-by-due-time: Delayed messages come in the order of their times: none waits
//     behind one that is due later.
//   - limit/delay-to-an-exchange: A delayed message is routed when it is due, to whoever is bound
//     then.
//   - limit/priority: Of the messages that wait the one of the highest priority comes first, and
//     those of the same in their order.
//   - limit/max-priority: What is published to a queue with a priority above its MaxPriority counts
//     as that, and a queue without one keeps the order; the receiver is told the priority as it was
//     given.
//   - limit/drop-head: A full queue with DropHead drops its oldest message to make room, and its
//     publishers do not notice.
//   - limit/dropped-to-dead-letters: What a full queue drops goes to its dead-letter queue.
//
// durable:
//
//   - durable/messages: A queue and the messages in it survive a restart of the broker, those that
//     were in hand as well.
//   - durable/clients-go-on: After a restart of the broker clients go on by themselves:
//     subscriptions deliver, and publishing works again.
//   - durable/groups: A group's queue, what is in it, and its bindings survive a restart of the
//     broker.
//   - durable/delayed: A message that waits for its time survives a restart of the broker, and
//     still comes not before.
//   - durable/dead-letters: Dead letters survive a restart of the broker.
//
// inspect:
//
//   - inspect/depth: Inspect reports how many messages wait in a queue, without those that
//     consumers hold, and how many consumers there are.
//   - inspect/browse: Browse returns copies of what waits, as it was published and in its order, at
//     most as many as asked for, and how many more there are.
//   - inspect/browse-takes-nothing: Browse leaves all messages in their queue, in their order, with
//     their attempts, and does not touch those behind what it looked at.
//   - inspect/browse-bounds: Browse refuses a limit that is not in 1..MaxBrowse as invalid.
//   - inspect/list: Queues lists every queue once.
//   - inspect/bindings: Bindings reports what a group is bound to: each exchange and key, as long
//     as it is bound.
//   - inspect/compare: Compare finds no difference in what was declared, one in what was declared
//     otherwise, and nothing where nothing is; and it changes nothing.
//   - inspect/purge: Purge drops what waits in a queue and returns how many messages that were;
//     none becomes a dead letter, and those in hand stay.
//   - inspect/delete: Delete deletes a queue with what is in it.
//   - inspect/delete-if: Delete leaves a queue alone that has consumers or messages and is to be
//     deleted only without: that is ErrPrecondition.
//   - inspect/deleted-in-use: A subscription whose queue is deleted in use declares it again and
//     goes on.
//   - inspect/not-found: What is asked of a queue that does not exist is ErrNotFound, makes no
//     queue, and disturbs nobody.
//   - inspect/bounded: What is asked of a broker that stands still ends with its ctx.
//   - inspect/heals: What is asked while a lost session is replaced waits for the next one.
//   - inspect/while-blocked: A broker that takes no messages still answers what is asked of it, and
//     can be purged.
//
// health:
//
//   - health/reporter: An adapter that claims to report health is an adapters.HealthReporter, and
//     says that each connection is up and not blocked while all is well.
//   - health/closed: After Close no connection is up.
//   - health/lost: A connection that was lost and made again is up, is counted, and says why the
//     one before was lost.
//
// lifecycle:
//
//   - lifecycle/close-twice: To close a driver twice is harmless, also at the same time.
//   - lifecycle/after-close: After Close every method returns ErrClosed, and nothing is sent or
//     declared.
//   - lifecycle/close-ends-receive: Close ends every Receive that waits, with ErrClosed.
//   - lifecycle/stop-ends-receive: Stop ends every Receive that waits, and those that come later,
//     with ErrStopped; to stop twice is harmless.
//   - lifecycle/stop-gives-back: What was not received when a subscription is stopped goes back at
//     once, in order; what was in hand does not.
//   - lifecycle/ended-ctx: With a ctx that has ended nothing is declared, subscribed or received,
//     and the error wraps that of the ctx.
//   - lifecycle/receive-gives-up: A Receive that waits comes back when its ctx ends, and takes no
//     message with it.
//   - lifecycle/subscribe-ctx: The ctx of Subscribe bounds the call, not the life of the
//     subscription.
//   - lifecycle/close-in-hand: Close waits for nobody who has messages in hand, and leaves no
//     goroutine behind.
//   - lifecycle/frozen: While the broker stands still every method comes back when its ctx ends; so
//     does Close, which ends all that waits.
//
// input:
//
//   - input/names: A queue's name is used byte by byte as it is, or refused as ErrInvalid; no two
//     names mean the same queue.
//   - input/keys: The key, content type and encoding, type, app id, correlation id and reply
//     address of a message arrive as they are, or are refused as ErrInvalid, and the client lives
//     on.
//   - input/ids-and-metadata: Ids and metadata arrive byte by byte as they are, or the message is
//     refused as ErrInvalid, and the client lives on.
//   - input/payloads: A payload arrives byte by byte as it was, whatever is in it; none at all
//     arrives as an empty one.
//   - input/much-metadata: Metadata of 64 KiB, keys and values together, arrives whole; with a byte
//     more the message is refused as ErrInvalid, and the client lives on.
//   - input/metadata-does-nothing: Metadata is carried and means nothing: whatever its names, it
//     comes back as it was or is refused as ErrInvalid, and steers nothing.
//   - input/reserved-names: Names that belong to the broker are ErrInvalid.
//   - input/sources: A source that breaks a rule is ErrInvalid, for Declare as for Subscribe.
//   - input/prefetch: A prefetch below 1 or above 65535 is ErrInvalid, and never means no limit.
//   - input/unknown-kinds: An endpoint of a kind that there is not is ErrInvalid.
//
// secret:
//
//   - secret/never-shown: The password shows in no error, and not when a driver or what it returns
//     is printed, whatever the verb.
//   - secret/lost-session: The password shows in no error about a lost session.
package conformance
