#!/usr/bin/env bash
# A node that is killed forgets what it has confirmed for a quorum queue that is new.
#
# Four quorum queues are declared, twenty persistent messages are published to
# each, all of them are confirmed, and the node is killed and started again. A
# confirm of a quorum queue says that the message is on disk, so one would expect
# all of them. One queue is there, and empty: the node had not yet noted on disk
# which member it is of that queue (file names.dets, saved about twice a second),
# and starts one anew. Three seconds later nothing is lost.
#
# Seen with RabbitMQ 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.3.6-1 of forky
#	killed at once: some queues have 20 messages, others 0
#	killed after 3 seconds: all queues have 20 messages
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

# killed kills the node; "wait" says nothing of it then.
killed() {
	pkill -9 -x beam.smp
	wait "$server" 2>/dev/null || true
	while pgrep -x beam.smp >/dev/null; do sleep 0.1; done
}

# trial NAME SECONDS: queues whose node is killed so long after they have everything.
trial() {
	start forky
	TRIAL=$1 SECONDS_BEFORE=$2 client <<-'END'
		channel = connect().channel()
		channel.confirm_delivery()
		queues = [f"{os.environ['TRIAL']}.{i}" for i in range(4)]
		for queue in queues:
		    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
		for i in range(20):
		    for queue in queues:
		        publish(channel, queue, str(i))
		time.sleep(float(os.environ["SECONDS_BEFORE"]))
	END
	killed
	start forky
	TRIAL=$1 client <<-'END'
		channel, until = connect().channel(), time.monotonic() + 30
		def counts(): # of a queue that has no leader yet is 0
		    return [channel.queue_declare(f"{os.environ['TRIAL']}.{i}", passive=True).method.message_count for i in range(4)]
		while 0 in counts() and time.monotonic() < until:
		    time.sleep(0.5)
		found = counts()
		if os.environ["TRIAL"] == "at-once":
		    see("killed at once", "some queues have 20 messages, others 0" if set(found) == {0, 20} else found, "some queues have 20 messages, others 0")
		else:
		    see("killed after 3 seconds", "all queues have 20 messages" if set(found) == {20} else found, "all queues have 20 messages")
	END
	stop
}

install forky 4.3.6
trial at-once 0
trial later 3
