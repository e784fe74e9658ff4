#!/usr/bin/env bash
# A classic queue that was purged says of what is published to it afterwards, once
# the broker was restarted in order, that it is redelivered.
#
# One would guess that a message that nobody ever received is never marked
# redelivered after an orderly restart, and it is not, unless the queue was once
# purged while nothing of it was in hand, even if it was empty. Then all that came
# since is marked, after one restart: the next one finds nothing to mark. A queue
# that was purged while a message was in hand is right. 4.3 has it right, too.
# Programs that look twice at what is redelivered, or count it, do so for nothing.
#
# Seen with RabbitMQ 4.0.5 (trixie) and 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.0.5-6+deb13u2 of trixie
#	never purged: 0 of 3 redelivered
#	purged: 3 of 3 redelivered
#	purged, one in hand: 0 of 3 redelivered
#	purged before the last restart: 0 of 3 redelivered
#	RabbitMQ 4.3.6-1 of forky
#	never purged: 0 of 3 redelivered
#	purged: 0 of 3 redelivered
#	purged, one in hand: 0 of 3 redelivered
#	purged before the last restart: 0 of 3 redelivered
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

try() { # suite, how many of the purged queue are marked
	start "$1"
	client <<-'END'
		channel = connect().channel()
		channel.confirm_delivery()
		for queue in "never purged", "purged", "purged, one in hand", "purged before the last restart":
		    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "classic"})
		channel.queue_purge("purged before the last restart")
	END
	stop
	start "$1"
	client <<-'END'
		channel = connect().channel()
		channel.confirm_delivery()
		publish(channel, "purged, one in hand", "in hand")
		get(channel, "purged, one in hand")
		for queue in "purged", "purged, one in hand":
		    channel.queue_purge(queue)
		for queue in "never purged", "purged", "purged, one in hand", "purged before the last restart":
		    for _ in range(3):
		        publish(channel, queue, "later")
	END
	stop
	start "$1"
	MARKED=$2 client <<-'END'
		channel = connect().channel()
		for queue in "never purged", "purged", "purged, one in hand", "purged before the last restart":
		    marked, later = 0, 0
		    while later < 3:
		        method, _, body = get(channel, queue)
		        if body == b"later":
		            later += 1
		            marked += method.redelivered
		    expected = int(os.environ["MARKED"]) if queue == "purged" else 0
		    see(queue, f"{marked} of 3 redelivered", f"{expected} of 3 redelivered")
	END
	stop
}

install trixie 4.0.5
try trixie 3

install forky 4.3.6
try forky 0
