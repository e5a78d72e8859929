"""Worker kinds in Python for the asynctask master.

    from asynctask_worker import Dead, Retry, run, worker

    @worker("thumbnail")
    def thumbnail(payload, task):
        ...

    if __name__ == "__main__":
        run()

The master starts this program and talks to it over one socket (protocol 1, see examples/README.md of asynctask). How
the function ends is the outcome of the task: it returns nothing and the task is done; it returns anything else, and the task
is done with that as its result, for the next steps of its job; it returns or raises `Retry`, `Snooze`, `Dead` or `Malformed`;
any other exception is an error, with its traceback as detail, and the queue's retry policy decides. `SystemExit` is not caught: code that ends the process in the middle of a task has crashed.

Functions run in the main thread, one task after the other. Tasks that the master sends ahead wait in this process, where a
second thread reads them; it never runs a task. It gives those that are not begun back when the master recalls them, while
the function of the task in hand goes on.

INT, TERM and HUP are caught and do nothing, because only the master stops a worker: it waits for the task in hand, and
kills what does not end in time. Programs that a task starts get the default actions again.

This module opens no queue, no database and no broker connection: `Task.submit` hands tasks to the master.
"""

import base64
import inspect
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from datetime import timedelta
from decimal import Decimal
from json.encoder import encode_basestring as _quoted
from types import FrameType
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, NoReturn, Optional, Tuple, Union

__all__ = ["Dead", "FrameTooLong", "Job", "Malformed", "Retry", "Snooze", "Task", "run", "worker"]
__version__ = "0.1.0"

PROTOCOL = 1
LIMIT = 16 * 1024 * 1024
"""Longest frame in bytes, its newline included."""

AHEAD = 64
"""Tasks that a worker takes beyond the one in hand, if `run` is not told otherwise: the most that the master sends."""

_TASK = b'{"task":'
_PIECE = 64 * 1024
_LONGEST_TEXT = 64 * 1024
_LONGEST_MEMO = 2 * 1024 * 1024
_LEVELS = {"ERROR": 0, "WARNING": 1, "INFO": 2, "DEBUG": 3}
_LEVEL_NAMES = {"WARN": "WARNING", "CRITICAL": "ERROR", "FATAL": "ERROR", "NOTICE": "INFO", "TRACE": "DEBUG"}
# Made once: `json.dumps` with options makes an encoder in each call, and `json.loads` looks for the encoding of bytes.
_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_TASK_BEGINS = re.compile(rb'\s*\{\s*"task"\s*:\s*\{\s*"id"\s*:\s*("(?:[^"\\]|\\.)*")')

Seconds = Union[float, timedelta]


class Outcome(Exception):
    """How a task ended, if it is neither done nor an error. May be returned or raised.

    A `memo` is any JSON, 16 KiB at most: `Task.memo` when the task comes again. Without one it keeps what it had.
    """

    memo: Optional[str] = None

    def _frame(self, task_id: str) -> Dict[str, Any]:
        raise NotImplementedError

    def _line(self, task_id: str, memo: Optional[str]) -> bytes:
        frame = dumps(self._frame(task_id))
        return encoded(_with_memo(frame, self.memo or memo))


class Retry(Outcome):
    """Try again later; uses an attempt. Without `delay` (seconds), the queue's retry policy says when."""

    def __init__(self, delay: Optional[Seconds] = None, error: str = "", memo: Any = None) -> None:
        super().__init__(error)
        self.delay_ms = None if delay is None else _millis(delay)
        self.error = error
        self.memo = _memo(memo)

    def _frame(self, task_id: str) -> Dict[str, Any]:
        body: Dict[str, Any] = {"id": task_id, "error": text_of(self.error)}
        if self.delay_ms is not None:
            body["delay_ms"] = self.delay_ms
        return {"retry": body}


class Snooze(Outcome):
    """Not now: again after `delay` seconds. Uses no attempt."""

    def __init__(self, delay: Seconds, memo: Any = None) -> None:
        super().__init__(delay)
        self.delay_ms = _millis(delay)
        self.memo = _memo(memo)

    def _frame(self, task_id: str) -> Dict[str, Any]:
        return {"snooze": {"id": task_id, "delay_ms": self.delay_ms}}


class Dead(Outcome):
    """This can never be done: to the dead letters, however many attempts are left."""

    def __init__(self, reason: str, detail: str = "", memo: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.memo = _memo(memo)

    def _frame(self, task_id: str) -> Dict[str, Any]:
        return {"failed": {"id": task_id, "error": text_of(self.reason), "detail": text_of(self.detail)}}


class Malformed(Outcome):
    """The payload has the wrong shape: to the dead letters."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def _frame(self, task_id: str) -> Dict[str, Any]:
        return {"malformed": {"id": task_id, "error": text_of(self.reason)}}


class FrameTooLong(ValueError):
    """What was to be said does not fit into a frame of 16 MiB."""


Function = Callable[[Any, "Task"], Any]

_functions: Dict[str, Function] = {}
_wanted: Dict[str, List[str]] = {}


def worker(name: str, properties: bool = False) -> Callable[[Function], Function]:
    """Registers a function `(payload, task)` under the name that it has in the log.

    The payload is what its JSON says, or `bytes` if the kind has `accepts: bytes`. With `properties`, the master is asked
    for those of the message: `task.properties`.
    """

    def register(function: Function) -> Function:
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__name__} is a coroutine function; a worker is a plain one")
        if name in _functions:
            raise ValueError(f'the worker "{name}" is registered twice')
        _functions[name] = function
        _wanted[name] = ["properties"] if properties else []
        return function

    return register


class Job:
    """The place of a task in a job, one passage of a pipeline."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.id: str = body["id"]
        self.pipeline: str = body["pipeline"]
        self.key: Optional[str] = body.get("key")
        """The job's key, None without one."""
        self.step: str = body["step"]
        self.index: int = body.get("index") or 0
        """The task's number among those that were submitted with it, from 0."""
        self.wipe: bool = bool(body.get("wipe"))
        """It is there to wipe what the step left."""
        self.inputs: Dict[str, Dict[str, Any]] = body.get("inputs") or {}
        """What the steps before gave, by step: `state`, `result` and `memo`. Empty for an item."""


class Task:
    """The task in hand."""

    def __init__(self, link: "Link", lines: "_Lines", body: Mapping[str, Any]) -> None:
        self.id: str = body["id"]
        self.queue: str = body.get("queue") or ""
        self.attempt: int = body.get("attempt") or 1
        """Attempts used, this one included."""
        self.max_attempts: int = body.get("max_attempts") or 1
        self.headers: Dict[str, Any] = body.get("headers") or {}
        """What the producer sent beside the payload."""
        self.properties: Dict[str, Any] = body.get("properties") or {}
        """What the message says of itself (`reply_to`, `correlation_id` …), if `@worker` asked for it."""
        limit = body.get("deadline_ms")
        self.deadline: Optional[float] = None if limit is None else time.monotonic() + limit / 1000
        """On the clock of `time.monotonic()`: the process is killed then. None without a limit."""
        place = body.get("job")
        self.job: Optional[Job] = None if place is None else Job(place)
        """Its place in a job; None outside of jobs."""
        self._memo: Any = body.get("memo")
        self._new_memo: Optional[str] = None
        self._link = link
        self._lines = lines
        self._submitted: List[str] = []

    @property
    def memo(self) -> Any:
        """What the last attempt left for this one, None without.

        What is put here goes with any end but done, an exception as well, unless the outcome has a memo of its own.
        """
        return self._memo

    @memo.setter
    def memo(self, memo: Any) -> None:
        # Now, and not with the outcome: what cannot be written fails here, and later changes change nothing.
        self._new_memo = _memo(memo)
        self._memo = memo

    def time_left(self) -> Optional[float]:
        """Seconds until the deadline, None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def progress(self, percent: Optional[float] = None, note: str = "") -> None:
        """Tells how far it is; `asynctask status` shows it."""
        body: Dict[str, Any] = {"id": self.id, "note": text_of(note)}
        if percent is not None:
            body["percent"] = min(100.0, max(0.0, float(percent)))
        self._link.send({"progress": body})

    def submit(self, queue: str, payload: Any, delay: Optional[Seconds] = 0) -> None:
        """Submits another task, stored together with the success of this one and dropped with any other end."""
        # Now, and not with the outcome: what cannot be written fails here, and later changes change nothing.
        body = f'{{"queue":{dumps(text_of(queue))},"payload":{dumps(payload)},"delay_ms":{_millis(delay or 0)}}}'
        self._submitted.append(body)

    def item(self, payload: Any, delay: Optional[Seconds] = None) -> None:
        """Submits one more task of this step of the job, to the queue of its items: the step is done when all of them are."""
        self._submit_member("item", payload, delay)

    def more(self, payload: Any, delay: Optional[Seconds] = None) -> None:
        """Submits one more task of this step, to the step's own queue: the one that goes on with the next thousand items."""
        self._submit_member("more", payload, delay)

    def start(self, pipeline: str, payload: Any, id: Optional[str] = None) -> None:
        """Starts a job of a pipeline, for which nobody waits. With an `id` that a job has, none is started."""
        chosen = "" if id is None else f',"id":{dumps(text_of(id))}'
        body = f'{{"pipeline":{dumps(text_of(pipeline))},"payload":{dumps(payload)}{chosen}}}'
        self._submitted.append(body)

    def _submit_member(self, what: str, payload: Any, delay: Optional[Seconds]) -> None:
        if self.job is None:
            raise RuntimeError(f"the task {self.id} is of no job: it has no items")
        later = f',"delay_ms":{_millis(delay)}' if delay else ""
        self._submitted.append(f'{{"{what}":{dumps(payload)}{later}}}')

    def accept(self) -> None:
        """Acknowledges the task now, from the middle of it: if the host is lost it does not come again."""
        self._link.send({"accept": {"id": self.id}})

    def log(self, level: str, message: object) -> None:
        """Writes a line of this level (ERROR, WARNING, INFO, DEBUG) to the log."""
        self._lines.write(level, str(message), self._link)

    def _done(self, result: Any = None) -> bytes:
        submit = ',"submit":[' + ",".join(self._submitted) + "]" if self._submitted else ""
        given = "" if result is None else ',"result":' + dumps(result)
        return encoded('{"done":{"id":' + _quoted(self.id) + given + submit + "}}")


class _Lines:
    """This worker's own lines in the log."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_plain = os.environ.get("ASYNCTASK_LOG_FORMAT", "plain") == "plain"
        self.level = 2
        self.set_level(os.environ.get("ASYNCTASK_LOG_LEVEL", "INFO"))

    def set_level(self, word: str) -> None:
        self.level = _LEVELS.get(_level(word), 2)

    def write(self, level: str, message: str, link: "Link") -> None:
        level = _level(level)
        if _LEVELS.get(level, 2) > self.level:
            return
        if self.is_plain:
            # Between what the code prints, in the order of the code.
            print(f"{level}:{self.name}:{text_of(message)}", flush=True)
        else:
            link.send({"log": {"level": level, "message": text_of(message)}})


class Link:
    """The socket to the master: frames in, frames out."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._is_over = False
        self._process = os.getpid()

    def is_copy(self) -> bool:
        """Whether this process was forked from the one that the master speaks to."""
        return os.getpid() != self._process

    def send(self, frame: Mapping[str, Any]) -> None:
        self.send_line(encoded(dumps(frame)))

    def send_line(self, line: bytes, last: bool = False) -> None:
        """Writes a frame; after the last one nothing, whichever thread would say something."""
        try:
            with self._lock:
                if not self._is_over:
                    self._is_over = last
                    self._stream.sendall(line)
        except (BrokenPipeError, ConnectionResetError):
            # The master is gone, and the task in hand with it: there is nobody to work for.
            raise SystemExit(0) from None
        except OSError as error:
            # The code of a task has closed it. The thread that reads it keeps it open for the kernel, so that the master sees no
            # end; and threads of that code might keep the process from ending.
            print(f"error: the socket to the master was closed here: {error}", file=sys.stderr)
            _flush()
            os._exit(70)

    def lines(self) -> Iterator[bytes]:
        """Frames as they are asked for."""
        try:
            yield from self._stream.makefile("rb")
        except ConnectionResetError:
            # The master is gone, and has not read all that was said to it.
            return

    def receive(self) -> bytes:
        """Some bytes; none once the master is gone."""
        try:
            return self._stream.recv(_PIECE)
        except ConnectionResetError:
            return b""

    def forked(self) -> None:
        """In a child, where the thread that held the lock may not exist."""
        self._lock = threading.Lock()


class _Inbox:
    """Frames that have come and wait for their turn.

    A thread reads them, because a recall is to be answered within 50 ms, also while the main thread is in a function. It
    holds the GIL for some microseconds a frame and gets it within Python's switch interval (5 ms) from code in Python.

    A task is begun when `next_frame` takes it. Each end of a deque gives a frame to one taker only, so no lock decides
    whether a task was begun or is returned. The main thread is woken only if it waits: while there are frames, none of
    the two threads costs the other a system call.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._frames: Deque[Optional[bytes]] = deque()
        # Of a line that has not come to its end: they are joined once, since it may have megabytes.
        self._pieces: List[bytes] = []
        self._waits = False
        # Locked, but for a wake-up that was not taken yet. The reader alone releases it, the main thread alone acquires it.
        self._wake_up = threading.Lock()
        self._wake_up.acquire()
        os.register_at_fork(after_in_child=self._forked)
        threading.Thread(target=self._read, name="asynctask-inbox", daemon=True).start()

    def next_frame(self) -> Optional[bytes]:
        """The frame that came first; waits for it. None if none comes any more."""
        while True:
            try:
                return self._frames.popleft()
            except IndexError:
                self._waits = True
                # Looked at once more, since the reader may have looked at `_waits` just before.
                if not self._frames:
                    self._wake_up.acquire()
                self._waits = False

    def _read(self) -> None:
        # A signal is to interrupt what the main thread waits in.
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            received = self._link.receive()
            while received:
                self._take_in(received)
                received = self._link.receive()
        except SystemExit:
            # An answer had nobody to read it.
            pass
        finally:
            # Nobody would hear how the tasks that are left have ended.
            self._taken_back()
            self._frames.append(None)
            self._wake()

    def _take_in(self, received: bytes) -> None:
        lines = received.split(b"\n")
        # What stands behind the last newline is the beginning of the next line, perhaps empty.
        rest = lines.pop()
        if lines:
            lines[0] = b"".join([*self._pieces, lines[0]])
            self._pieces.clear()
        self._pieces.append(rest)
        for line in lines:
            self._came(line)
        self._wake()

    def _came(self, line: bytes) -> None:
        if _is_recall(line):
            self._link.send_line(b'{"returned":{"ids":[' + b",".join(self._taken_back()) + b"]}}\n")
        else:
            self._frames.append(line)

    def _taken_back(self) -> List[bytes]:
        """Takes out the tasks that are not begun: their ids, in the order in which they came, as JSON."""
        ids: List[bytes] = []
        others: List[Optional[bytes]] = []
        while True:
            try:
                line = self._frames.pop()
            except IndexError:
                break
            task_id = None if line is None else _task_id(line)
            if task_id is None:
                others.append(line)
            else:
                ids.append(task_id)
        self._frames.extend(reversed(others))
        return ids[::-1]

    def _wake(self) -> None:
        if self._waits and self._wake_up.locked():
            self._wake_up.release()

    def _forked(self) -> None:
        # A copy of this process has no reader, and none of the tasks are its own: should it come back to the loop, it ends.
        self._frames = deque([None])
        self._link.forked()


def run(name: Optional[str] = None, ahead: int = AHEAD) -> None:
    """Does tasks until the master says halt, then returns.

    With several registered functions, `name` says which; without it the program's first argument does.

    `ahead` is how many tasks the master may send beyond the one in hand, which it does while they are short. A thread
    reads them then. With 0 there is none: for code that holds the GIL for long, or must be the only thread.

    Call it in the main thread, at the end of the program: loading belongs before it, since the first task may come
    as soon as it is called.
    """
    name, function = _chosen(name)
    serve(name, _Functions(name, function), ahead)


class Work:
    """What a worker does with the frames that are its own affair: this module does functions, others build on it."""

    def ready(self) -> Mapping[str, Any]:
        """What stands in `ready` beside the protocol, the name and `ahead`."""
        return {}

    def task(self, body: Mapping[str, Any], link: "Link") -> bytes:
        """Does a task, and says as a line how it ended."""
        raise NotImplementedError

    def told(self, frame: Mapping[str, Any], link: "Link") -> None:
        """Any frame but `task`, `halt`, `ping` and `recall`; what is not known changes nothing."""

    def ended(self) -> None:
        """The last task is over, and `bye` is not said yet."""


class _Functions(Work):
    """A function that was registered with `worker`."""

    def __init__(self, name: str, function: Function) -> None:
        self._name = name
        self._function = function
        self._lines = _Lines(name)

    def ready(self) -> Mapping[str, Any]:
        wanted = _wanted.get(self._name)
        return {"wants": wanted} if wanted else {}

    def task(self, body: Mapping[str, Any], link: "Link") -> bytes:
        return _outcome(self._function, body, Task(link, self._lines, body))

    def told(self, frame: Mapping[str, Any], link: "Link") -> None:
        if "log_level" in frame:
            self._lines.set_level(str(frame["log_level"].get("level")))


def serve(name: str, work: Work, ahead: int) -> None:
    """The conversation with the master, from `ready` to `bye`, or until the master is gone."""
    if not 0 <= ahead < 1 << 32:
        raise ValueError(f"ahead is a number of tasks from 0 on, not {ahead}")
    link = Link(_socket())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A function and not SIG_IGN, which programs that a task starts would inherit.
        signal.signal(number, _stay)
    ready: Dict[str, Any] = {"protocol": PROTOCOL, "name": name, **work.ready()}
    if ahead:
        ready["ahead"] = ahead
    link.send({"ready": ready})
    for line in iter(_Inbox(link).next_frame, None) if ahead else link.lines():
        frame = _parsed(line, link)
        if "task" in frame:
            _end(work.task(frame["task"], link), link)
        elif "halt" in frame:
            work.ended()
            _flush()
            link.send_line(b'{"bye":{}}\n', last=True)
            return
        elif "ping" in frame:
            link.send({"pong": {"n": frame["ping"]["n"]}})
        elif "recall" in frame:
            # A task is begun when it is read, so there is nothing to give back.
            link.send({"returned": {"ids": []}})
        else:
            work.told(frame, link)


def _end(line: bytes, link: Link) -> None:
    # What was printed stands before the master's line about the outcome.
    _flush()
    if link.is_copy():
        # A copy of this process that came back from the function: how the task ends is for its parent to say.
        is_done = line.startswith(b'{"done"')
        if not is_done:
            print("in a child of the worker:", line.decode(), end="", file=sys.stderr, flush=True)
        raise SystemExit(0 if is_done else 1)
    link.send_line(line)


def _outcome(function: Function, body: Mapping[str, Any], task: Task) -> bytes:
    try:
        try:
            if "payload_base64" in body:
                payload: Any = base64.b64decode(body["payload_base64"])
            else:
                payload = body.get("payload")
            outcome = function(payload, task)
            if not isinstance(outcome, Outcome):
                return task._done(outcome)
        except Outcome as raised:
            outcome = raised
        return outcome._line(task.id, task._new_memo)
    except Exception as error:
        text = str(error) or type(error).__name__
        detail = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        told = {"id": task.id, "error": text_of(text), "detail": text_of(detail, keep_end=True)}
        return encoded(_with_memo(dumps({"error": told}), task._new_memo))


def _parsed(line: bytes, link: Link) -> Mapping[str, Any]:
    try:
        try:
            frame = _decode(line.decode("utf-8", "surrogatepass"))
        except ValueError:
            # Python reads no whole numbers of more than some thousand digits.
            frame = json.loads(line, parse_int=_whole)
    except RecursionError:
        begin = _TASK_BEGINS.match(line)
        if begin is None:
            return {}
        outcome = Malformed("the payload is nested too deeply for this worker")
        link.send(outcome._frame(json.loads(begin.group(1))))
        return {}
    return frame if isinstance(frame, dict) else {}


def _is_recall(line: bytes) -> bool:
    return not line.startswith(_TASK) and "recall" in _glanced_at(line)


def _task_id(line: bytes) -> Optional[bytes]:
    """The id of a task, as its JSON; None of another frame."""
    # The beginning is enough, as the master writes it: there may be megabytes behind it.
    begin = _TASK_BEGINS.match(line)
    if begin is not None:
        return begin.group(1)
    task = _glanced_at(line).get("task")
    # One without an id is no task that could be given back: what is wrong with it is said in its turn.
    return json.dumps(task["id"]).encode() if isinstance(task, dict) and "id" in task else None


def _glanced_at(line: bytes) -> Mapping[str, Any]:
    """A frame before its turn; empty if it cannot be read, which is to be said in its turn."""
    try:
        frame = json.loads(line, parse_int=str)
    except (ValueError, RecursionError):
        return {}
    return frame if isinstance(frame, dict) else {}


def _whole(text: str) -> Union[int, Decimal]:
    return int(text) if len(text) < 1000 else Decimal(text)


def _chosen(name: Optional[str]) -> Tuple[str, Function]:
    if name is None and len(_functions) == 1:
        name = next(iter(_functions))
    if name is None and len(sys.argv) > 1:
        name = sys.argv[1]
    if name is None or name not in _functions:
        known = ", ".join(_functions) or "none"
        _refuse(f'which worker? "{name or ""}" is not registered; known: {known}')
    return name, _functions[name]


def _socket() -> socket.socket:
    try:
        number = int(os.environ["ASYNCTASK_FD"])
        os.set_inheritable(number, False)
        return socket.socket(fileno=number)
    except (KeyError, ValueError, OSError) as error:
        _refuse(f"a worker is started by the master alone: ASYNCTASK_FD names no socket: {error}")


def _refuse(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(64)


def _stay(_number: int, _frame: Optional[FrameType]) -> None:
    """Only the master stops a worker."""


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            # Closed by the code itself, or by a reader: no reason to fail a task.
            pass


def dumps(value: Any) -> str:
    try:
        return _encode(value)
    except RecursionError:
        raise ValueError("it is nested too deeply to be written") from None


def _memo(memo: Any) -> Optional[str]:
    """A memo as JSON, None without one."""
    if memo is None:
        return None
    text = dumps(memo)
    # The master says what is too long for it; this is what no frame could hold.
    if len(text) > _LONGEST_MEMO:
        raise ValueError(f"a memo of {len(text)} characters is too long: put it into a file and give its name")
    return text


def _with_memo(frame: str, memo: Optional[str]) -> str:
    # Before the braces of the body and of the frame.
    return frame if memo is None else f'{frame[:-2]},"memo":{memo}}}}}'


def encoded(text: str) -> bytes:
    try:
        line = text.encode() + b"\n"
    except UnicodeEncodeError:
        # Half a character of a payload, which JSON can hold as an escape and UTF-8 cannot.
        line = "".join(f"\\u{ord(sign):04x}" if "\ud800" <= sign <= "\udfff" else sign for sign in text).encode()
        line += b"\n"
    if len(line) > LIMIT:
        raise FrameTooLong(f"a frame of {len(line)} bytes is longer than {LIMIT >> 20} MiB")
    return line


def text_of(text: object, keep_end: bool = False) -> str:
    """A text that every JSON parser reads, of a length that a log bears."""
    text = str(text)
    if len(text) > _LONGEST_TEXT:
        text = "…" + text[-_LONGEST_TEXT:] if keep_end else text[:_LONGEST_TEXT] + "…"
    return text.encode("utf-8", "replace").decode()


def _millis(delay: Seconds) -> int:
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
    if not 0 <= seconds < 1e10:
        raise ValueError(f"a delay is a number of seconds from 0 on, not {delay}")
    # Up, so that a wait is never cut to nothing.
    return int(-(-seconds * 1000 // 1))


def _level(word: str) -> str:
    word = word.upper()
    return _LEVEL_NAMES.get(word, word if word in _LEVELS else "INFO")
