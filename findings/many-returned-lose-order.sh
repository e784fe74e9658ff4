#!/usr/bin/env bash
# A hundred messages that one channel returns to a quorum queue at once lose their order.
#
# One would guess that messages which were taken in order, and are all returned in
# order by a single basic.nack, are delivered in that order again. They are in a
# classic queue, and in a quorum queue if there are 32 of them. Of 100, some come in
# another order, although nobody else touched the queue. A program that looks through a queue by taking and returning all of it
# disturbs it.
#
# Seen with RabbitMQ 4.0.5 (trixie) and 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.0.5-6+deb13u2 of trixie
#	classic, 100 returned, in order: True
#	quorum, 32 returned, in order: True
#	quorum, 100 returned, in order: False
#	RabbitMQ 4.3.6-1 of forky
#	classic, 100 returned, in order: True
#	quorum, 32 returned, in order: True
#	quorum, 100 returned, in order: False
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

order() {
	client <<'END'
def in_order(queue_type, count):
    channel = connect().channel()
    channel.confirm_delivery()
    queue = f"{queue_type} {count}"
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": queue_type})
    bodies = [str(n) for n in range(count)]
    for body in bodies:
        publish(channel, queue, body)
    for body in bodies:
        method, _, got = get(channel, queue)
        if got.decode() != body:
            sys.exit("it has changed: the first time they were out of order")
    channel.basic_nack(method.delivery_tag, multiple=True, requeue=True)
    return [get(channel, queue)[2].decode() for _ in bodies] == bodies

for queue_type, count, before in ("classic", 100, True), ("quorum", 32, True), ("quorum", 100, False):
    see(f"{queue_type}, {count} returned, in order", in_order(queue_type, count), before)
END
}

install trixie 4.0.5
start trixie
order
stop

install forky 4.3.6
start forky
order
