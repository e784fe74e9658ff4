"""A plain client of RabbitMQ, told what to do by a line of JSON each.

    python3 peer.py AMQP_URL

Each line is {"do": NAME, ...}: a method of pika's channel with its arguments,
or one of the functions below. The answer is a line, too: {"result": ...} or
{"error": ...}.
"""

import base64
import datetime
import decimal
import json
import struct
import sys
import time
import uuid

import pika
import pika.data

PATIENCE = 20  # seconds


def allow_floats():
    """Older versions of pika have no floats in headers, others do."""
    encode = pika.data.encode_value

    def encode_value(pieces, value):
        if isinstance(value, float):
            pieces.append(struct.pack(">cd", b"d", value))
            return 9
        return encode(pieces, value)

    pika.data.encode_value = encode_value


# What JSON has no form for, among the values of headers.
ODD = {
    "int": 42,
    "negative": -1,
    "big": 2**40,
    "float": 1.5,
    "true": True,
    "false": False,
    "text": "ü\n",
    "empty": "",
    "bytes": b"\x00\xff",
    "timestamp": datetime.datetime(2026, 1, 2, 3, 4, 5),
    "none": None,
    "decimal": decimal.Decimal("12.345"),
    "list": [1, "two", None, [decimal.Decimal("0.5")]],
    "table": {"a": 1, "b": {"c": [True, b"raw"]}},
}


def properties(fields):
    if fields.get("headers") == "odd":
        fields["headers"] = ODD
    return pika.BasicProperties(**fields)


def shown(value):
    """A value of a header, with its type where JSON does not show it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, dict):
        return {k: shown(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shown(v) for v in value]
    return {type(value).__name__: str(value)}


def received(method, props, body):
    fields = {k: shown(v) for k, v in props.__dict__.items() if v is not None}
    return {
        "exchange": method.exchange,
        "key": method.routing_key,
        "redelivered": method.redelivered,
        "properties": fields,
        "body": base64.b64encode(body).decode(),
    }


class Peer:
    def __init__(self, url):
        parameters = pika.URLParameters(url)
        parameters.heartbeat = 0  # nobody attends to it between two lines
        self.connection = pika.BlockingConnection(parameters)
        self.channel = self.connection.channel()

    def do(self, do, **args):
        if hasattr(self, "do_" + do):
            return getattr(self, "do_" + do)(**args)
        if self.channel.is_closed:  # by an error before
            self.channel = self.connection.channel()
        try:
            frame = getattr(self.channel, do)(**args)
        except pika.exceptions.ChannelClosedByBroker as e:
            raise RuntimeError("%d %s" % (e.reply_code, e.reply_text)) from None
        return getattr(frame.method, "queue", None)

    def do_publish(self, body="", props=None, exchange="", key=""):
        self.channel.basic_publish(exchange, key, base64.b64decode(body), properties(props or {}))
        self.connection.process_data_events()

    def do_get(self, queue):
        """The next message of a queue, acknowledged."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            method, props, body = self.channel.basic_get(queue, auto_ack=True)
            if method:
                return received(method, props, body)
            time.sleep(0.02)
        raise RuntimeError("nothing came")

    def do_serve(self, queue, requests, headers=None):
        """Answers requests: with the body twice, or as it is if there are headers."""
        seen = []

        def answer(channel, method, props, body):
            seen.append(received(method, props, body))
            reply = pika.BasicProperties(correlation_id=props.correlation_id, headers=headers)
            channel.basic_publish("", props.reply_to, body if headers else body + body, reply)
            channel.basic_ack(method.delivery_tag)

        self.channel.basic_qos(prefetch_count=1)
        tag = self.channel.basic_consume(queue, answer)
        end = time.monotonic() + PATIENCE
        while len(seen) < requests and time.monotonic() < end:
            self.connection.process_data_events(time_limit=0.1)
        self.channel.basic_cancel(tag)
        return seen

    def do_call(self, key, body, props=None, reply_queue="", exclusive=True):
        """A call as pika's tutorial makes it: with an exclusive queue for the answer."""
        queue = self.channel.queue_declare(reply_queue, exclusive=exclusive).method.queue
        fields = {"reply_to": queue, "correlation_id": str(uuid.uuid4())}
        fields.update(props or {})
        self.channel.basic_publish("", key, base64.b64decode(body), pika.BasicProperties(**fields))
        answer = self.do_get(queue)
        answer["mine"] = answer["properties"].get("correlation_id") == fields["correlation_id"]
        return answer

    def do_call_direct(self, key, body):
        """A call whose answer comes without a queue (direct reply-to)."""
        answers = []
        address = "amq.rabbitmq.reply-to"
        tag = self.channel.basic_consume(address, lambda c, m, p, b: answers.append(received(m, p, b)), auto_ack=True)
        fields = pika.BasicProperties(reply_to=address, correlation_id="7")
        self.channel.basic_publish("", key, base64.b64decode(body), fields)
        end = time.monotonic() + PATIENCE
        while not answers and time.monotonic() < end:
            self.connection.process_data_events(time_limit=0.1)
        self.channel.basic_cancel(tag)
        answers[0]["mine"] = answers[0]["properties"].get("correlation_id") == "7"
        return answers[0]


def main():
    allow_floats()
    peer = Peer(sys.argv[1])
    for line in sys.stdin:
        try:
            answer = {"result": peer.do(**json.loads(line))}
        except Exception as e:  # pylint: disable=broad-except
            answer = {"error": "%s: %s" % (type(e).__name__, e)}
        print(json.dumps(answer), flush=True)


main()
