#!/usr/bin/env bash
# A message that is returned to a quorum queue goes behind what was returned before.
#
# One would guess that basic.nack with requeue puts a message back where it was,
# so that the oldest one comes next again, as in a classic queue, and as in a
# quorum queue from which nothing else has come back. But a quorum queue keeps
# what was returned in the order in which it came back: after a consumer was lost
# with four messages, the next one that takes a message and returns it finds it
# behind the other three. To retry in order, it is not enough to take one message
# at a time.
#
# Seen with RabbitMQ 4.0.5 (trixie) and 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.0.5-6+deb13u2 of trixie
#	classic: returned 1 1, then 1 2 3 4 5 6
#	classic, after a loss: returned 1 1, then 1 2 3 4 5 6
#	quorum: returned 1 1, then 1 2 3 4 5 6
#	quorum, after a loss: returned 1 2, then 3 4 1 2 5 6
#	RabbitMQ 4.3.6-1 of forky
#	classic: returned 1 1, then 1 2 3 4 5 6
#	classic, after a loss: returned 1 1, then 1 2 3 4 5 6
#	quorum: returned 1 1, then 1 2 3 4 5 6
#	quorum, after a loss: returned 1 2, then 3 4 1 2 5 6
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

order() {
	client <<'END'
def order(queue_type, lost):
    channel = connect().channel()
    channel.confirm_delivery()
    queue = f"{queue_type} {lost}"
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": queue_type})
    for body in "123456":
        publish(channel, queue, body)
    if lost:
        other = connect()
        holder = other.channel()
        for _ in range(4):
            get(holder, queue)
        other.close()
        until = time.monotonic() + 30
        while channel.queue_declare(queue, passive=True).method.message_count < 6:
            if time.monotonic() > until:
                sys.exit("it has changed: not all came back")
            time.sleep(0.05)
    returned = []
    for _ in range(2):
        method, _, body = get(channel, queue)
        returned.append(body.decode())
        channel.basic_nack(method.delivery_tag, requeue=True)
    then = [get(channel, queue)[2].decode() for _ in range(6)]
    return f"returned {' '.join(returned)}, then {' '.join(then)}"

see("classic", order("classic", False), "returned 1 1, then 1 2 3 4 5 6")
see("classic, after a loss", order("classic", True), "returned 1 1, then 1 2 3 4 5 6")
see("quorum", order("quorum", False), "returned 1 1, then 1 2 3 4 5 6")
see("quorum, after a loss", order("quorum", True), "returned 1 2, then 3 4 1 2 5 6")
END
}

install trixie 4.0.5
start trixie
order
stop

install forky 4.3.6
start forky
order
