#!/usr/bin/env bash
# A message that is returned to a quorum queue overtakes those of a higher priority.
#
# One would guess that basic.nack with requeue puts a message back where it was
# among those of its own priority, as a classic queue with x-max-priority does.
# A quorum queue gives what was returned before all that waits, so a message of
# priority 1 that is returned again and again holds up one of priority 9.
#
# Seen with RabbitMQ 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.3.6-1 of forky
#	classic: high low other
#	quorum: low high other
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

install forky 4.3.6
start forky
client <<'END'
def order(queue, arguments):
    channel.queue_declare(queue, durable=True, arguments=arguments)
    publish(channel, queue, "low", priority=1)
    publish(channel, queue, "other", priority=1)
    low, _, _ = get(channel, queue)
    publish(channel, queue, "high", priority=9)
    channel.basic_nack(low.delivery_tag, requeue=True)
    return " ".join(get(channel, queue)[2].decode() for _ in range(3))

channel = connect().channel()
channel.confirm_delivery()
see("classic", order("classic", {"x-max-priority": 9}), "high low other")
see("quorum", order("quorum", {"x-queue-type": "quorum"}), "low high other")
END
