#!/usr/bin/env bash
# A publisher's message is nacked because somebody else's subscription ended.
#
# One would guess that a fanout exchange whose bound queues are all well, but for
# an exclusive, auto-delete one that goes at this moment, has nothing to nack:
# the queue that goes counts as gone, and a message is confirmed by those that
# stay. RabbitMQ 4.3 answers basic.nack for some milliseconds after the consumer
# of such a queue was cancelled, though the queue that stays has the message: who
# publishes it again sends it twice. RabbitMQ 4.0 confirms each.
#
# Seen with RabbitMQ 4.0.5 (trixie) and 4.3.6 (forky), pika 1.3.2; the number of
# nacks changes from run to run:
#
#	RabbitMQ 4.0.5-6+deb13u2 of trixie
#	some of 500 are nacked: False
#	the queue that stays has got: 500
#	RabbitMQ 4.3.6-1 of forky
#	some of 500 are nacked: True
#	the queue that stays has got: 500
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

# fanout expects True if some are nacked, else False.
fanout() {
	client <<END
subscriber = connect().channel()
subscriber.exchange_declare("news", "fanout")
subscriber.queue_declare("stays", durable=True)
subscriber.queue_bind("stays", "news")
publisher = connect().channel()
publisher.confirm_delivery()
nacked = 0
for _ in range(50):
    queue = subscriber.queue_declare("", exclusive=True, auto_delete=True).method.queue
    subscriber.queue_bind(queue, "news")
    subscriber.basic_cancel(subscriber.basic_consume(queue, lambda *delivery: None))
    for _ in range(10):
        try:
            publisher.basic_publish("news", "", b"news")
        except pika.exceptions.NackError:
            nacked += 1
see("some of 500 are nacked", nacked > 0, $1)
see("the queue that stays has got", subscriber.queue_declare("stays", passive=True).method.message_count, 500)
END
}

install trixie 4.0.5
start trixie
fanout False
stop

install forky 4.3.6
start forky
fanout True
