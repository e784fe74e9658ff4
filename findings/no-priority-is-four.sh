#!/usr/bin/env bash
# A message without a priority overtakes those of priorities 0 to 3.
#
# One would guess that a message without the property is one of priority 0, as in
# a classic queue with x-max-priority, and that a queue declared without any word
# of priorities has none. A quorum queue of RabbitMQ 4.3 always has them, and takes
# a message without the property for one of priority 4: a publisher that begins to
# set low priorities puts its messages behind all those of publishers that do not.
#
# Seen with RabbitMQ 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.3.6-1 of forky
#	classic: 5 4 3 2 1 none 0
#	quorum: 5 4 none 3 2 1 0
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

install forky 4.3.6
start forky
client <<'END'
def order(queue, arguments):
    channel.queue_declare(queue, durable=True, arguments=arguments)
    for priority in 1, 2, 3, 4, 5, None, 0:
        body = "none" if priority is None else str(priority)
        publish(channel, queue, body, priority=priority)
    return " ".join(get(channel, queue)[2].decode() for _ in range(7))

channel = connect().channel()
channel.confirm_delivery()
see("classic", order("classic", {"x-max-priority": 9}), "5 4 3 2 1 none 0")
see("quorum", order("quorum", {"x-queue-type": "quorum"}), "5 4 none 3 2 1 0")
END
