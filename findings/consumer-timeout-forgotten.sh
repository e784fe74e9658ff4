#!/usr/bin/env bash
# A consumer timeout of RabbitMQ 4.3 may never strike, until its queue has something else to do.
#
# A consumer of a quorum queue gets a message and acks it at once, then gets
# another one and keeps it. One would guess that the timeout of 1 s strikes 1 s
# after the second delivery, as it does for whoever keeps the first message it
# gets. On some nodes it does not for many of such consumers, however long one
# waits, and does so at once when any message is published to the queue.
#
# The timer of the first message is not stopped by the ack. When it goes off in
# vain, the queue sets the next one only if the first one's time is past, in
# whole milliseconds; less than a millisecond later it takes the first one for
# pending (rabbit_fifo.erl: handle_aux). Whether it is that soon depends on the
# fraction of a millisecond at which the node was started: this script starts
# it until that is below 0.2 ms.
#
# Seen with RabbitMQ 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.3.6-1 of forky
#	without a message before: told of the timeout, of 40: 40
#	with a message before: told of the timeout, of 40: fewer
#	after one more message to each queue: told of the timeout, of 40: 40
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

install forky 4.3.6

# offset prints by how many nanoseconds the node's milliseconds begin after those of its timers.
offset() {
	local epmd_port
	read -r _ _ epmd_port <"$FINDING_FOLDER/ports"
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/rabbitmq ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$epmd_port" \
		chroot "$FINDING_FOLDER/forky" sh -c 'exec /usr/lib/rabbitmq/lib/*/sbin/rabbitmqctl -q -n finding@localhost \
		eval "erlang:time_offset(nanosecond) rem 1000000."'
}

for ((starts = 1; ; starts++)); do
	start forky
	for ((tries = 1; ; tries++)); do
		if after=$(offset 2>"$FINDING_FOLDER/log"); then break; fi
		if ((tries == 60)); then
			cat "$FINDING_FOLDER/log" >&2
			exit 2
		fi
		sleep 0.5
	done
	((after >= 200000)) || break
	stop
	if ((starts == 60)); then
		echo "60 starts, and never one below 0.2 ms" >&2
		exit 2
	fi
done

client <<'END'
def timeouts(name, before, more=False):
    """Returns how many of 40 consumers are told that they kept a message for too long."""
    connection, told = connect(), {}
    publisher = connection.channel()
    publisher.confirm_delivery()
    for i in range(40):
        queue = f"{name}.{i}"
        publisher.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel, kept = connection.channel(), []
        channel.basic_qos(prefetch_count=1)
        channel.add_on_cancel_callback(lambda _, queue=queue: told.update({queue: True}))
        channel.basic_consume(queue, lambda ch, method, _, body: ch.basic_ack(method.delivery_tag)
                              if body == b"quick" else kept.append(body), arguments={"x-consumer-timeout": 1_000})
        if before:
            publish(publisher, queue, "quick")
            connection.sleep(0.2)
        publish(publisher, queue, "kept")
        until = time.monotonic() + 30
        while not kept and time.monotonic() < until:
            connection.process_data_events(0.05)
    connection.sleep(10)
    seen = [len(told)]
    if more:
        for i in range(40):
            publish(publisher, f"{name}.{i}", "quick")
        connection.sleep(5)
        seen.append(len(told))
    connection.close()
    return seen

what = "told of the timeout, of 40"
see("without a message before: " + what, timeouts("first", False)[0], 40)
some, all = timeouts("second", True, more=True)
see("with a message before: " + what, "fewer" if some < 40 else "all", "fewer")
see("after one more message to each queue: " + what, all, 40)
END
