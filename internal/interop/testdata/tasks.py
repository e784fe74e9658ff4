"""A program with Celery, which puts a task into a queue or works until it is ended.

    python3 tasks.py AMQP_URL QUEUE send
    python3 tasks.py AMQP_URL QUEUE work

A task that is run prints a line of JSON: what it was called with, and what Celery
knows of it. Celery reads all that from the headers and properties of the message,
and a worker dies of a header that has not the type that it expects.
"""

import json
import sys

import celery
import kombu


def program(url, queue):
    app = celery.Celery("tasks", broker=url)
    app.conf.update(
        task_queues=[kombu.Queue(queue, exchange=kombu.Exchange("", type="direct"), routing_key=queue, no_declare=True)],
        task_default_queue=queue,
        task_ignore_result=True,
        worker_enable_remote_control=False,  # its queue is of a kind that RabbitMQ 4.3 refuses
        worker_hijack_root_logger=False,
        broker_connection_retry=False,
        worker_redirect_stdouts=False,
        broker_heartbeat=0,
        broker_transport_options={"confirm_publish": True},  # else what a program sent last may be lost when it ends
    )
    # As Celery from 5.5 on does by itself for quorum queues, which know no other way.
    kombu.Connection.qos_semantics_matches_spec = True

    @app.task(name="cook", bind=True)
    def cook(self, dish, times=1):
        request = self.request
        print(json.dumps({
            "dish": dish, "times": times, "id": request.id, "retries": request.retries, "timelimit": request.timelimit,
            "expires": request.expires, "group": request.group, "root": request.root_id,
            "encoding": (request.delivery_info or {}).get("encoding"), "priority": request.delivery_info.get("priority"),
        }), flush=True)

    return app, cook


def main():
    url, queue, verb = sys.argv[1:]
    app, cook = program(url, queue)
    if verb == "send":
        cook.apply_async(("pad thai",), {"times": 2}, task_id="plain")
        cook.apply_async(("pho",), {"times": 3}, task_id="full", compression="gzip", time_limit=60, priority=3, expires=3600, headers={"table": 7})
        return
    app.worker_main(["worker", "--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"])


main()
