#!/usr/bin/env bash
# A classic queue deleted "if empty" takes with it messages that RabbitMQ has confirmed.
#
# Publishers send with confirms and the mandatory flag, a consumer takes all that
# comes, and the queue is deleted on the condition that it is empty. One would
# guess that a message which is confirmed after that was delivered before, and
# that what came too late is returned as unroutable. Some messages are confirmed,
# not returned, and delivered to nobody: those that were routed to the queue and
# had not reached it when it was deleted.
#
# Seen with RabbitMQ 4.3.6 (forky), pika 1.3.2:
#
#	RabbitMQ 4.3.6-1 of forky
#	not deleted: confirmed and not delivered: none
#	deleted 30 times: confirmed and not delivered: some
set -euo pipefail
. "$(dirname "$0")/rabbitmq.bash"

install forky 4.3.6
start forky
client <<'END'
import threading

def lost(deletions):
    """Returns how many of the messages that were confirmed nobody got."""
    queue, arguments = f"deleted.{deletions}", {"x-queue-type": "classic"}
    confirmed, delivered, errors = [], set(), []
    deleting, publishing = threading.Event(), threading.Event()
    publishing.set()

    def thread(run):
        def guarded():
            try:
                run()
            except Exception as e:
                errors.append(repr(e))
        t = threading.Thread(target=guarded)
        t.start()
        return t

    def consume():
        """Takes what comes, and declares the queue again whenever it is gone."""
        connection = connect()
        while publishing.is_set() or connection.channel().queue_declare(queue, durable=True, arguments=arguments).method.message_count:
            channel = connection.channel()
            channel.queue_declare(queue, durable=True, arguments=arguments)
            for method, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=0.5):
                if body is not None:
                    delivered.add(body)
                elif not publishing.is_set():
                    break
            channel.close()
        connection.close()

    def publish_on(name):
        connection = connect()
        channel = connection.channel()
        channel.confirm_delivery()
        i = 0
        while publishing.is_set():
            i += 1
            body = f"{name}.{i}"
            try:
                channel.basic_publish("", queue, body.encode(), pika.BasicProperties(delivery_mode=2), mandatory=True)
                confirmed.append(body.encode())
            except (pika.exceptions.UnroutableError, pika.exceptions.NackError):
                pass
        connection.close()

    connection = connect()
    connection.channel().queue_declare(queue, durable=True, arguments=arguments)
    threads = [thread(consume)] + [thread(lambda name=name: publish_on(name)) for name in "abcd"]
    done, until = 0, time.monotonic() + 120
    while done < deletions and time.monotonic() < until:
        connection.sleep(0.05)
        try:
            connection.channel().queue_delete(queue, if_empty=True)
            done += 1
            connection.sleep(0.2)
        except pika.exceptions.ChannelClosedByBroker as e: # it is not empty, or not there
            if e.reply_code not in (404, 406):
                raise
    if not deletions:
        connection.sleep(5)
    publishing.clear()
    for t in threads:
        t.join(60)
    if errors or done < deletions:
        sys.exit(f"{done} deletions, {errors}")
    return len(set(confirmed) - delivered)

see("not deleted: confirmed and not delivered", "some" if lost(0) else "none", "none")
see("deleted 30 times: confirmed and not delivered", "some" if lost(30) else "none", "some")
END
