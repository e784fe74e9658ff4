#!/usr/bin/env bash
# A dead letter is marked redelivered when its queue gives it out for the first time.
#
# One would guess that redelivered, and the counts in the headers, are about the
# queue that delivers, so that a dead letter begins anew, and that basic.nack and
# basic.reject are the same for a single message. With RabbitMQ 4.3 a letter that
# basic.reject made, or that a consumer had when its connection was lost before,
# is redelivered on its first delivery from the dead-letter queue; a quorum queue
# says x-delivery-count 1, too. One that basic.nack made begins anew.
#
# Seen with RabbitMQ 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.3.6-1 of forky
#	classic, nack: redelivered False
#	classic, reject: redelivered True
#	classic, lost, then nack: redelivered True
#	quorum, nack: redelivered False
#	quorum, reject: redelivered True, x-acquired-count 1, x-delivery-count 1
#	quorum, lost, then nack: redelivered True, x-acquired-count 1, x-delivery-count 1
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

install forky 4.3.6
start forky
client <<'END'
def letter(queue_type, lost, end):
    """Returns how the first delivery of a dead letter is marked."""
    channel = connect().channel()
    channel.confirm_delivery()
    work, dead = (f"{name} {queue_type} {lost} {end}" for name in ("work", "dead"))
    arguments = {"x-queue-type": queue_type}
    channel.queue_declare(dead, durable=True, arguments=arguments)
    arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    channel.queue_declare(work, durable=True, arguments=arguments)
    publish(channel, work, "message")
    if lost:
        other = connect()
        get(other.channel(), work)
        other.close()
    tag = get(channel, work)[0].delivery_tag
    if end == "nack":
        channel.basic_nack(tag, requeue=False)
    else:
        channel.basic_reject(tag, requeue=False)
    method, properties, _ = get(channel, dead)
    counts = [f", {name} {count}" for name, count in sorted(properties.headers.items()) if name.endswith("-count")]
    return f"redelivered {method.redelivered}" + "".join(counts)

see("classic, nack", letter("classic", False, "nack"), "redelivered False")
see("classic, reject", letter("classic", False, "reject"), "redelivered True")
see("classic, lost, then nack", letter("classic", True, "nack"), "redelivered True")
see("quorum, nack", letter("quorum", False, "nack"), "redelivered False")
see("quorum, reject", letter("quorum", False, "reject"),
    "redelivered True, x-acquired-count 1, x-delivery-count 1")
see("quorum, lost, then nack", letter("quorum", True, "nack"),
    "redelivered True, x-acquired-count 1, x-delivery-count 1")
END
