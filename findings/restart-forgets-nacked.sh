#!/usr/bin/env bash
# A restart makes a classic queue forget deliveries, if they ended with basic.nack.
#
# One would guess that a durable message that was delivered and came back is still
# marked redelivered after a clean restart, or that none is, and that basic.nack
# and basic.reject with requeue are the same for a single message. A classic
# queue of RabbitMQ 4.3 forgets what basic.nack returned, and remembers what
# basic.reject or the end of a connection did. Before the restart all are marked.
#
# Seen with RabbitMQ 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.3.6-1 of forky
#	nack, second delivery, redelivered: True
#	reject, second delivery, redelivered: True
#	connection lost, second delivery, redelivered: True
#	nack, third delivery after a restart, redelivered: False
#	reject, third delivery after a restart, redelivered: True
#	connection lost, third delivery after a restart, redelivered: True
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

install forky 4.3.6
start forky
client <<'END'
channel = connect().channel()
channel.confirm_delivery()
for queue in "nack", "reject", "connection lost":
    channel.queue_declare(queue, durable=True)
    publish(channel, queue, "message")
    for delivery in "first", "second":
        other = connect()
        holder = other.channel()
        method, _, _ = get(holder, queue)
        if delivery == "second":
            see(f"{queue}, second delivery, redelivered", method.redelivered, True)
        if queue == "nack":
            holder.basic_nack(method.delivery_tag, requeue=True)
        if queue == "reject":
            holder.basic_reject(method.delivery_tag, requeue=True)
        other.close()
END
stop
start forky
client <<'END'
channel = connect().channel()
for queue, remembered in ("nack", False), ("reject", True), ("connection lost", True):
    see(f"{queue}, third delivery after a restart, redelivered", get(channel, queue)[0].redelivered, remembered)
END
