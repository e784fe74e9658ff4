#!/usr/bin/env bash
# A consumer that is gone stays the active one, if another was about to replace it.
#
# In a quorum queue with a single active consumer a consumer of a higher priority
# takes the place of the active one, once that has settled what it holds. If the
# connection of the active one breaks before that, RabbitMQ 4.3 puts it among
# those that wait, though nobody is there. When the second one has gone, it is the
# active consumer again, and what is delivered to it nobody gets.
#
# Seen with RabbitMQ 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.3.6-1 of forky
#	replaced in peace: the third consumer gets 3
#	gone before it was replaced: the third consumer gets nothing
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

install forky 4.3.6
start forky
client <<'END'
import socket

def consume(connection, queue, priority, came, ack):
    channel = connection.channel()
    channel.basic_qos(prefetch_count=2)
    def on_message(channel, method, properties, body):
        came.append(body.decode())
        if ack:
            channel.basic_ack(method.delivery_tag)
    channel.basic_consume(queue, on_message, arguments={"x-priority": priority})
    return channel

def third(queue, in_peace):
    """Returns what a third consumer gets after the first was to be replaced by the second."""
    publishing = connect()
    publisher = publishing.channel()
    publisher.confirm_delivery()
    publisher.queue_declare(queue, durable=True,
                            arguments={"x-queue-type": "quorum", "x-single-active-consumer": True})
    first, second, last = connect(), connect(), connect()
    came = []
    consume(first, queue, 1, came, in_peace)
    publish(publisher, queue, "0")
    publish(publisher, queue, "1")
    first.sleep(1)
    taken = []
    consume(second, queue, 2, taken, True)
    second.sleep(1)
    first._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # as a broken connection
    publish(publisher, queue, "2")
    second.sleep(2)
    second.close()
    got = []
    consume(last, queue, 1, got, True)
    publish(publisher, queue, "3")
    last.sleep(3)
    last.close()
    publishing.close()
    return f"the third consumer gets {' '.join(got) or 'nothing'}"

see("replaced in peace", third("peace", True), "the third consumer gets 3")
see("gone before it was replaced", third("gone", False), "the third consumer gets nothing")
END
