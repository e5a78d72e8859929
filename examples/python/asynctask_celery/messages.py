"""Reads a message as Celery does: protocol 2, protocol 1, and what is between them.

What is read is untrusted: whatever it is, the answer is a task or `Unreadable` with one line of text. Only what the
application accepts (`accept_content`) is decoded, by kombu; JSON without typed values is decoded here, as kombu would.
"""

import binascii
import json
import zlib
from typing import Any, Dict, List, Mapping, Optional, Tuple

from celery import Celery
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2
from kombu.compression import get_decoder
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.message import Message
from kombu.serialization import loads, prepare_accept_content, registry
from kombu.utils.json import loads as kombus_json

JSON = "application/json"

LONGEST_BODY = 256 * 1024 * 1024
"""Bytes of a body that was compressed with zlib, which is what producers use."""

# The decoder that `json.loads` uses, without looking for the encoding in each call.
_plain = json.JSONDecoder().decode


class Unreadable(Exception):
    """A message that is no task. The text is one line; `cause` is what Celery would store for the caller."""

    def __init__(self, text: str, cause: Optional[Exception] = None) -> None:
        super().__init__(one_line(text))
        self.cause = cause or DecodeError(one_line(text))


class Received:
    """What came, made out. Kept small: one is made for each task."""

    __slots__ = ("frame", "request", "embed", "is_decoded", "utc")

    def __init__(
        self, frame: Mapping[str, Any], request: Dict[str, Any], embed: Any, is_decoded: bool, utc: bool
    ) -> None:
        self.frame = frame
        """The master's frame; its headers are those of the message."""
        self.request = request
        """Headers, arguments and the rest, as `Task.request` is made of."""
        self.embed = embed
        """Callbacks, errbacks, chain and chord; also in `request`."""
        self.is_decoded = is_decoded
        """Whether the headers stood in the body (protocol 1)."""
        self.utc = utc


class Reader:
    """Reads the messages of an application."""

    def __init__(self, app: Celery, hostname: str) -> None:
        self._hostname = hostname
        self._uses_utc: bool = app.uses_utc_timezone()
        self._accept = prepare_accept_content(app.conf.accept_content)
        # Another decoder may be registered for JSON, and then it is to be used.
        self._reads_json = JSON in self._accept and registry._decoders.get(JSON) is kombus_json

    def read(self, frame: Mapping[str, Any]) -> Received:
        """The task of a frame.

        Raises `Unreadable`, and nothing else.
        """
        headers: Dict[str, Any] = frame.get("headers") or {}
        properties: Dict[str, Any] = frame.get("properties") or {}
        try:
            raw: bytes = binascii.a2b_base64(frame["payload_base64"])
        except (KeyError, ValueError, TypeError):
            raise Unreadable("the message has no readable body") from None
        payload = self._payload(raw, headers, properties)
        is_decoded = False
        utc = self._uses_utc
        if "task" in headers and type(payload) in (list, tuple):
            request = headers.copy()
        else:
            payload, request, utc = _older(payload, headers)
            is_decoded = True
        try:
            args, kwargs, embed = payload
        except ValueError:
            raise Unreadable(f"the body is a list of {len(payload)}, not of arguments, keywords and options") from None
        if type(args) not in (list, tuple) or not isinstance(kwargs, dict):
            raise Unreadable(
                f"arguments are a list and keywords a mapping, not {type(args).__name__} and {type(kwargs).__name__}"
            )
        if type(request.get("task")) is not str or type(request.get("id")) is not str:
            raise Unreadable("the name of the task and its id are texts, and one of them is none")
        get = properties.get
        request["properties"] = properties
        request["reply_to"] = get("reply_to")
        request["correlation_id"] = get("correlation_id")
        request["hostname"] = self._hostname
        request["delivery_info"] = {
            # Producers of Celery publish to the default exchange, by the name of the queue.
            "exchange": get("exchange", ""),
            "routing_key": get("routing_key") or frame.get("queue"),
            "priority": get("priority"),
            "redelivered": get("redelivered") or False,
        }
        request["args"] = args
        request["kwargs"] = kwargs
        request["is_eager"] = False
        if embed:
            if not isinstance(embed, dict):
                raise Unreadable(f"callbacks and the like are a mapping, not {type(embed).__name__}")
            request.update(embed)
        return Received(frame, request, embed, is_decoded, utc)

    def message(self, received: Received) -> Message:
        """The message as kombu's object, for code that wants one."""
        message = self.as_came(received.frame)
        if not received.is_decoded:
            # Decoded once is enough.
            request = received.request
            message._decoded_cache = (request["args"], request["kwargs"], received.embed)
        return message

    def as_came(self, frame: Mapping[str, Any]) -> Message:
        """A message, readable or not, as kombu's object."""
        properties = dict(frame.get("properties") or {})
        try:
            raw = binascii.a2b_base64(frame["payload_base64"])
        except (KeyError, ValueError, TypeError):
            raw = b""
        return Message(
            body=raw,
            content_type=properties.get("content_type"),
            content_encoding=properties.get("content_encoding"),
            headers=dict(frame.get("headers") or {}),
            properties=properties,
            delivery_info={
                "exchange": properties.get("exchange", ""),
                "routing_key": properties.get("routing_key") or frame.get("queue"),
                "redelivered": properties.get("redelivered") or False,
            },
            accept=self._accept,
        )

    def _payload(self, raw: bytes, headers: Mapping[str, Any], properties: Mapping[str, Any]) -> Any:
        content_type = properties.get("content_type")
        try:
            if "compression" in headers and headers["compression"]:
                raw = decompressed(raw, headers["compression"])
            # Typed values have this name, perhaps spelled with escapes; without any, kombu's hook changes nothing.
            if content_type == JSON and self._reads_json and raw and b"__type__" not in raw and b"\\u" not in raw:
                return _plain(raw.decode("utf-8"))
            return loads(raw, content_type, properties.get("content_encoding"), accept=self._accept)
        except RecursionError:
            raise Unreadable("the body is nested too deeply") from None
        except Unreadable:
            raise
        except Exception as error:
            # Whatever a decoder raises, a content type of a wrong type included.
            known = isinstance(error, (ContentDisallowed, DecodeError))
            cause = error if known else DecodeError(one_line(str(error)))
            raise Unreadable(f"the body cannot be decoded: {type(cause).__name__}: {error}", cause) from None


def decompressed(raw: bytes, how: Any) -> bytes:
    """The body before its compression. Kombu knows those that are installed."""
    try:
        decoder = get_decoder(how)
    except KeyError:
        raise Unreadable(f"the compression {how!r} is not known here") from None
    if decoder is not zlib.decompress:
        body: bytes = decoder(raw)
        return body
    # A small body must not take the memory of the machine.
    state = zlib.decompressobj()
    body = state.decompress(raw, LONGEST_BODY + 1)
    if len(body) > LONGEST_BODY:
        raise Unreadable(f"the body has more than {LONGEST_BODY >> 20} MiB without its compression")
    if not state.eof:
        raise Unreadable("the compressed body breaks off")
    return body


def one_line(text: str, length: int = 500) -> str:
    """A text on one line, of a length that a log bears."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[:length] + "…"


def _older(payload: Any, headers: Mapping[str, Any]) -> Tuple[Any, Dict[str, Any], bool]:
    """A body that is a mapping: protocol 1, or the form between it and protocol 2."""
    if not isinstance(payload, dict):
        raise Unreadable(
            "no task: there is no header `task`" if "task" not in headers else f"no task: the body is {_kind(payload)}"
        )
    message = Message(headers=dict(headers))
    try:
        if "task" in headers and "args" in payload:
            body, request, _, utc = hybrid_to_proto2(message, payload)
        elif "task" in payload:
            body, request, _, utc = proto1_to_proto2(message, payload)
        else:
            raise Unreadable("no task: neither the headers nor the body name one")
    except Unreadable:
        raise
    except RecursionError:
        raise Unreadable("the body is nested too deeply") from None
    except Exception as error:
        raise Unreadable(f"no task: {error}", error) from None
    return body, dict(request), bool(utc)


def _kind(payload: Any) -> str:
    names: List[Tuple[type, str]] = [(str, "a text"), (bytes, "bytes"), (bool, "a truth value"), (int, "a number")]
    return next((name for kind, name in names if isinstance(payload, kind)), f"of the type {type(payload).__name__}")
