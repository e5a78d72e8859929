"""Producers that know nothing of us: pika and kombu, each as its own documentation shows it.

python foreign.py pika|kombu|packed|garbage|verify URI
"""

import decimal
import gzip
import json
import pickle
import sys
import zlib

QUEUE = "foo"

# Body, message id, headers: whatever others may have put there.
GARBAGE = [
    (b"not json", "id-text", {"text": "\u00e4\u00f6\u00fc", "number": 7, "nested": {"list": [1, True, "x"]}}),
    (b"\xff\xfe\x00\x01 binary \xc3\x28", "id-binary", {"trace": None, "big": 2**40, "negative": -5, "half": decimal.Decimal("0.5")}),
    (b"", "id-empty", {}),
    (b'{"cut": [1, 2', "id-cut", {"x-custom": "kept"}),
    (pickle.dumps({"python": {1, 2}}), "id-pickle", {"bytes": b"\x00\xff"}),
    (b"{'single': 'quotes'}", "id-quotes", None),
    (b"NaN", "id-nan", {"": "an empty name", "spaced name": "x" * 300}),
]


def channel_of(uri):
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(uri))
    return connection, connection.channel()


def by_pika(uri):
    connection, channel = channel_of(uri)
    channel.queue_declare(QUEUE, durable=True)
    for body in ('{"foo":1}', '{"order": 2,  "spaced" : [ 1, 2 ]}', "[3,null]", '"a string"', "4.50", '"{\\"in\\":5}"'):
        channel.basic_publish("", QUEUE, body)
    connection.close()


def by_kombu(uri):
    import kombu

    with kombu.Connection(uri) as connection:
        queue = connection.SimpleQueue(QUEUE)
        queue.put(json.dumps({"foo": 1}))
        queue.put({"foo": 2})
        queue.put(json.dumps({"foo": 3}), serializer="json")
        queue.put("only text", serializer="json")
        queue.close()


def packed(uri):
    """Bodies that were packed, each as its library does it."""
    import kombu
    import pika

    connection, channel = channel_of(uri)
    channel.queue_declare(QUEUE, durable=True)
    bare = zlib.compressobj(wbits=-15)
    for encoding, body in (
        ("gzip", gzip.compress(b'{"n":1}')),
        ("deflate", zlib.compress(b'{"n":2}')),
        ("deflate", bare.compress(b'{"n":3}') + bare.flush()),
    ):
        channel.basic_publish("", QUEUE, body, pika.BasicProperties(content_encoding=encoding))
    connection.close()
    with kombu.Connection(uri) as connection:
        queue = connection.SimpleQueue(QUEUE)
        queue.put({"n": 4}, compression="gzip")
        queue.put({"n": 5}, compression="bzip2")
        queue.put({"n": 6})
        queue.close()


def garbage(uri):
    import pika

    connection, channel = channel_of(uri)
    channel.queue_declare(QUEUE, durable=True)
    for body, message_id, headers in GARBAGE:
        properties = pika.BasicProperties(message_id=message_id, headers=headers, content_type="application/x-odd")
        channel.basic_publish("", QUEUE, body, properties)
    channel.basic_publish("", QUEUE, "garbage without an id")
    channel.basic_publish("", QUEUE, '{"after":"all of it"}')
    connection.close()


def verify(uri):
    connection, channel = channel_of(uri)
    expected = {message_id: (body, headers or {}) for body, message_id, headers in GARBAGE}
    while True:
        method, properties, body = channel.basic_get(QUEUE + "_failed")
        if method is None:
            break
        headers = properties.headers or {}
        assert headers["asynctask-reason"] == "malformed", headers
        # The count is the broker's own: the letters were listed before.
        ours = ("asynctask-", "x-delivery-count")
        theirs = {name: value for name, value in headers.items() if not name.startswith(ours)}
        if body == b"garbage without an id":
            assert properties.message_id, properties
            assert theirs == {}, theirs
        else:
            assert (body, theirs) == expected.pop(properties.message_id), (body, properties)
            assert properties.content_type == "application/x-odd", properties
    assert not expected, expected
    print("untouched")
    connection.close()


{"pika": by_pika, "kombu": by_kombu, "packed": packed, "garbage": garbage, "verify": verify}[sys.argv[1]](sys.argv[2])
