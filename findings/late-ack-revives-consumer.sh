#!/usr/bin/env bash
# An ack that comes after a consumer timeout makes RabbitMQ deliver to nobody.
#
# After a consumer timeout a quorum queue of RabbitMQ 4.3 takes the message back,
# sends basic.cancel and leaves the channel open. One would guess that an ack that
# comes after that, from a handler that took too long, is an error or does
# nothing. It is no error, and the queue gives the cancelled consumer messages
# again, which lie there until its channel is closed or the timeout strikes again.
#
# Seen with RabbitMQ 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.3.6-1 of forky
#	without the ack: the other consumer gets 1 2 3 4 5 6, once the channel is closed nothing
#	with the ack: the other consumer gets 1 3 4 5 6, once the channel is closed 2
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

install forky 4.3.6
start forky
client <<'END'
def consume(connection, queue, on_message, **arguments):
    channel = connection.channel()
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue, on_message, arguments=arguments)
    return channel

def after_timeout(queue, ack):
    """Returns what another consumer gets after one that was cancelled did or did not ack."""
    connection = connect()
    publisher = connection.channel()
    publisher.confirm_delivery()
    publisher.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})

    held, cancels, came = [], [], []
    slow = consume(connection, queue, lambda channel, method, *_: held.append(method.delivery_tag),
                   **{"x-consumer-timeout": 10_000})
    slow.add_on_cancel_callback(cancels.append)
    publish(publisher, queue, "0")
    deadline = time.monotonic() + 60
    while not cancels:
        connection.process_data_events(1)
        if time.monotonic() > deadline:
            sys.exit("it has changed: no basic.cancel in a minute")

    def on_message(channel, method, properties, body):
        channel.basic_ack(method.delivery_tag)
        came.append(body.decode())

    def await_messages(count):
        """Waits for a number of messages, and a second for more."""
        end = time.monotonic() + 5
        while len(came) < count and time.monotonic() < end:
            connection.process_data_events(0.1)
        connection.sleep(1)

    consume(connection, queue, on_message)
    await_messages(1)
    came.clear()
    if ack:
        slow.basic_ack(held[0])
    connection.sleep(1)
    for i in range(1, 7):
        publish(publisher, queue, str(i))
    await_messages(5)
    before = " ".join(came)
    came.clear()
    slow.close()
    await_messages(6 - len(before.split()))
    connection.close()
    return f"the other consumer gets {before}, once the channel is closed {' '.join(came) or 'nothing'}"

see("without the ack", after_timeout("no-ack", False),
    "the other consumer gets 1 2 3 4 5 6, once the channel is closed nothing")
see("with the ack", after_timeout("ack", True),
    "the other consumer gets 1 3 4 5 6, once the channel is closed 2")
END
