#!/usr/bin/env bash
# A classic queue that lost a transient message in a restart never marks a message redelivered again.
#
# A transient and a persistent message wait in a classic queue, and the broker is
# restarted in order. What is delivered afterwards and comes back when its
# connection ends should be marked redelivered. It is not, nor is anything that is
# published to that queue from then on, after other restarts, too. The queue marks
# what is before the next place that it has to deliver for the first time; that one
# moves on only with the very message that has it, and the transient message had
# it. 4.3 keeps the mark with each message. Programs that count the losses of a
# message by the mark, or look twice at what has it, never see one.
#
# Seen with RabbitMQ 4.0.5 (trixie) and 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.0.5-6+deb13u2 of trixie
#	without a transient message: 2 of 2 redelivered
#	with one: 0 of 2 redelivered
#	after another restart: 0 of 1 redelivered
#	RabbitMQ 4.3.6-1 of forky
#	without a transient message: 2 of 2 redelivered
#	with one: 2 of 2 redelivered
#	after another restart: 1 of 1 redelivered
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

# try SUITE MARKED MARKED: how many should be marked with a transient message, and after another
# restart.
try() {
	start "$1"
	client <<-'END'
		channel = connect().channel()
		channel.confirm_delivery()
		for queue in "without", "with":
		    channel.queue_declare(queue, durable=True)
		channel.basic_publish("", "with", b"transient", pika.BasicProperties(delivery_mode=1))
		for queue in "without", "with":
		    publish(channel, queue, "persistent")
	END
	stop
	start "$1"
	cat >"$FINDING_FOLDER/marked.py" <<-'END'
		def marked(queue):
		    """Publishes one message more, takes all, loses the connection, and counts the marks."""
		    channel = connect().channel()
		    channel.confirm_delivery()
		    publish(channel, queue, "another")
		    taken = connect()
		    first = taken.channel()
		    n = channel.queue_declare(queue, passive=True).method.message_count
		    for _ in range(n):
		        get(first, queue)
		    taken.close()
		    found = [get(channel, queue)[0] for _ in range(n)]
		    for method in found:
		        channel.basic_ack(method.delivery_tag)
		    return f"{sum(m.redelivered for m in found)} of {n} redelivered"
	END
	{
		cat "$FINDING_FOLDER/marked.py"
		echo 'see("without a transient message", marked("without"), "2 of 2 redelivered")'
		echo "see('with one', marked('with'), '$2')"
	} | client
	stop
	start "$1"
	{
		cat "$FINDING_FOLDER/marked.py"
		echo "see('after another restart', marked('with'), '$3')"
	} | client
	stop
}

install trixie 4.0.5
try trixie "0 of 2 redelivered" "0 of 1 redelivered"
install forky 4.3.6
try forky "2 of 2 redelivered" "1 of 1 redelivered"
