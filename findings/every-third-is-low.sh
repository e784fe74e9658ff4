#!/usr/bin/env bash
# Messages of a low priority come between those of a high one, in a fixed ratio.
#
# One would guess that nothing of priority 0 comes while something of priority 9
# waits, as in a classic queue with x-max-priority. A quorum queue of RabbitMQ 4.0
# knows two levels, from 5 up and below, and gives two of the high one, then one
# of the low one, for as long as both wait. It does so without being declared for
# priorities.
#
# Seen with RabbitMQ 4.0.5 (trixie), pika 1.3.2:
#
#	RabbitMQ 4.0.5-6+deb13u2 of trixie
#	classic: 9 8 7 6 5 4 3 2 1 0
#	quorum: 5 6 0 7 8 1 9 2 3 4
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

install trixie 4.0.5
start trixie
client <<'END'
def order(queue, arguments):
    channel.queue_declare(queue, durable=True, arguments=arguments)
    for priority in range(10):
        publish(channel, queue, str(priority), priority=priority)
    return " ".join(get(channel, queue)[2].decode() for _ in range(10))

channel = connect().channel()
channel.confirm_delivery()
see("classic", order("classic", {"x-max-priority": 9}), "9 8 7 6 5 4 3 2 1 0")
see("quorum", order("quorum", {"x-queue-type": "quorum"}), "5 6 0 7 8 1 9 2 3 4")
END
