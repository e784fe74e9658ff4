#!/usr/bin/env bash
# A quorum queue whose leader does not answer at once is said to hold no messages.
#
# queue.declare with passive says how many messages are ready. One would guess
# that it waits for the queue, or fails. For a quorum queue it waits a quarter of
# a second, and then answers 0, as for one that is empty: nothing tells the two
# apart. So a program that deletes a queue once it is empty, or takes 0 for "all
# is done", may be wrong on a busy broker. basic.get of the same queue waits. The
# leader is paused here as a busy one is, by an operator's command.
#
# Seen with RabbitMQ 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.3.6-1 of forky
#	five messages are ready: 5
#	while the leader does not answer: 0 after 0.25 s
#	after it has gone on: 5
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

leader() { # suspend or resume
	local ports
	read -r -a ports <"$FINDING_FOLDER/ports"
	quietly env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/rabbitmq RABBITMQ_NODENAME=finding@localhost \
		ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="${ports[2]}" chroot "$FINDING_FOLDER/forky" rabbitmqctl eval \
		"{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"orders\">>)), {Name, _} = amqqueue:get_pid(Q), sys:$1(Name)."
}

install forky 4.3.6
start forky
client <<'END'
channel = connect().channel()
channel.confirm_delivery()
channel.queue_declare("orders", durable=True, arguments={"x-queue-type": "quorum"})
for i in range(5):
    publish(channel, "orders", str(i))
ready = channel.queue_declare("orders", passive=True).method.message_count
print("five messages are ready:", ready, flush=True)
sys.exit(ready != 5)
END
leader suspend
client <<'END'
channel = connect().channel()
began = time.monotonic()
ready = channel.queue_declare("orders", passive=True).method.message_count
took = time.monotonic() - began
print(f"while the leader does not answer: {ready} after {took:.2f} s", flush=True)
sys.exit(ready != 0 or took > 5)
END
leader resume
client <<'END'
ready = connect().channel().queue_declare("orders", passive=True).method.message_count
print("after it has gone on:", ready, flush=True)
sys.exit(ready != 5)
END
