#!/usr/bin/env bash
# A header of 1.5 is 1 for a consumer that uses pika.
#
# One would guess that a number with a fraction in the headers, an AMQP double,
# arrives as the float that it is, or that a client that cannot take it says so.
# pika makes an integer of it without a word: 0.25 is 0, and -2.75 is -2. It is
# there in the message, as py-amqp gets it from the same queue. pika has no way to
# send one, which is an error, so it takes another client to send it.
#
# Seen with RabbitMQ 4.0.5 (trixie), pika 1.4.4, its newest release in November
# 2026, and amqp 5.3.1:
#
#	RabbitMQ 4.0.5-6+deb13u2 of trixie
#	sent 1.5: py-amqp gets 1.5, pika gets 1
#	sent 0.25: py-amqp gets 0.25, pika gets 0
#	sent -2.75: py-amqp gets -2.75, pika gets -2
#	sent -2: py-amqp gets -2, pika gets -2
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

install trixie 4.0.5
start trixie
client pika==1.4.4 amqp==5.3.1 <<'END'
import amqp

def received(value):
    """Returns what each client gets for a header that py-amqp sent."""
    message = amqp.Message("message", application_headers={"value": value})
    other.basic_publish(message, routing_key="queue")
    method, properties, _ = get(channel, "queue")
    channel.basic_reject(method.delivery_tag, requeue=True)
    by_pika = properties.headers["value"]
    until = time.monotonic() + 30
    while (again := other.basic_get("queue", no_ack=True)) is None:
        if time.monotonic() > until:
            sys.exit("it has changed: the message did not come back")
        time.sleep(0.05)
    return f"py-amqp gets {again.headers['value']}, pika gets {by_pika}"

channel = connect().channel()
channel.queue_declare("queue", durable=True)
connection = amqp.Connection(f"127.0.0.1:{os.environ['AMQP_PORT']}")
connection.connect()
other = connection.channel()
see("sent 1.5", received(1.5), "py-amqp gets 1.5, pika gets 1")
see("sent 0.25", received(0.25), "py-amqp gets 0.25, pika gets 0")
see("sent -2.75", received(-2.75), "py-amqp gets -2.75, pika gets -2")
see("sent -2", received(-2), "py-amqp gets -2, pika gets -2")
END
