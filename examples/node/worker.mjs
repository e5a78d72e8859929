// A worker kind in JavaScript for the asynctask master: Node 18 or later, nothing to install.
//
//     asynctask submit words '{"text": "to be or not to be"}'
//     asynctask workers --halt-when-empty
//
// The master starts this program and talks to it over one socket, one JSON object a line: examples/README.md tells all
// of it. `serve` below is everything that a worker in JavaScript needs; `count` is what this one does.

import net from "node:net";
import process from "node:process";
import { pathToFileURL } from "node:url";

/** This can never be done: to the dead letters, however many attempts are left. */
export class Dead extends Error {
  constructor(message, memo) {
    super(message);
    this.memo = memo;
  }
}

/** Try again; `delay` in seconds, without it the queue's retry policy says when. `memo` is `task.memo` the next time. */
export class Retry extends Error {
  constructor(delay, message = "", memo) {
    super(message);
    this.delay = delay;
    this.memo = memo;
  }
}

/** Not now: again after `delay` seconds, with no attempt used. `memo` is `task.memo` then. */
export class Snooze extends Error {
  constructor(delay, memo) {
    super();
    this.delay = delay;
    this.memo = memo;
  }
}

/** Text for people: half of a character, which every `slice` may leave, is shown as such and breaks nobody's reader. */
const text = (value) => String(value).replace(/\p{Surrogate}/gu, "\ufffd");

/** Milliseconds, as they stand in a frame. */
const millis = (seconds) => Math.ceil(seconds * 1000);

/**
 * Does tasks with `work(payload, task)` until the master says halt. What it gives, if anything, is the result of the task,
 * for the next steps of its job. A promise that is rejected is an error, and the queue's retry policy decides. `task` has id,
 * queue, attempt, max_attempts, headers, deadline_ms and the functions below; `memo`, if the last attempt left one; `job` with
 * id, pipeline, key, step, index and inputs, if it is of a job; with `{ properties: true }` as the third argument also the
 * properties of the message, as `task.properties`.
 *
 * JSON's numbers become JavaScript's, which have 15 digits; `task.line` is the frame as it came, with all of them.
 */
export function serve(name, work, { properties = false } = {}) {
  const socket = new net.Socket({ fd: Number(process.env.ASYNCTASK_FD), readable: true, writable: true });
  const send = (frame) => socket.write(JSON.stringify(frame) + "\n");
  // Only the master stops a worker.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => {});

  async function run(body, line) {
    const { id } = body;
    const submit = [];
    const task = {
      ...body,
      line,
      progress: (percent, note = "") => send({ progress: { id, percent, note: text(note) } }),
      accept: () => send({ accept: { id } }),
      submit: (queue, payload, delay = 0) =>
        submit.push({ queue, payload: payload ?? null, delay_ms: millis(delay) }),
      // Of a task in a job: one more task of its step, in the queue of its items or, as the next page of them, in its own.
      item: (payload, delay = 0) => submit.push({ item: payload ?? null, delay_ms: millis(delay) }),
      more: (payload, delay = 0) => submit.push({ more: payload ?? null, delay_ms: millis(delay) }),
      // A job of a pipeline, for which nobody waits.
      start: (pipeline, payload, id) => submit.push({ pipeline, payload: payload ?? null, id }),
      log: (level, message) => send({ log: { level, message: text(message) } }),
    };
    const payload = body.payload_base64 === undefined ? body.payload : Buffer.from(body.payload_base64, "base64");
    try {
      // Text, as it is to be written: what cannot be is an error of the task.
      const result = JSON.stringify(await work(payload, task)) ?? "null";
      return { done: { id, submit: submit.length > 0 ? submit : undefined, result: JSON.parse(result) ?? undefined } };
    } catch (error) {
      const message = text(error?.message ?? error);
      const detail = text(error?.stack ?? "");
      const { memo } = error ?? {};
      if (error instanceof Dead) return { failed: { id, error: message, memo } };
      if (error instanceof Snooze) return { snooze: { id, delay_ms: millis(error.delay), memo } };
      if (!(error instanceof Retry)) return { error: { id, error: message, detail } };
      const delay = error.delay === undefined ? {} : { delay_ms: millis(error.delay) };
      return { retry: { id, error: message, ...delay, memo } };
    }
  }

  async function heard(line) {
    const frame = JSON.parse(line);
    if (frame.task) {
      send(await run(frame.task, line));
    } else if (frame.halt) {
      send({ bye: {} });
      socket.end(() => process.exit(0));
    } else if (frame.ping) {
      send({ pong: { n: frame.ping.n } });
    } else if (frame.recall) {
      // `ready` announces no tasks ahead, so there is nothing to give back. They would have to be given back within 50 ms also
      // while `work` runs, and code without an `await` keeps the one thread, and with it the socket, for as long as it likes.
      send({ returned: { ids: [] } });
    }
    // Anything else is of a later protocol.
  }

  // Pieces are joined once their line is whole: a payload may have megabytes. One frame after the other.
  let pieces = [];
  let last = Promise.resolve();
  socket.on("data", (bytes) => {
    for (let end; (end = bytes.indexOf(10)) >= 0; bytes = bytes.subarray(end + 1)) {
      const line = Buffer.concat([...pieces, bytes.subarray(0, end)]).toString();
      pieces = [];
      last = last.then(() => heard(line));
    }
    if (bytes.length > 0) pieces.push(bytes);
  });
  // The master is gone, and the task in hand with it.
  socket.on("end", () => process.exit(0));
  socket.on("error", () => process.exit(0));
  send({ ready: properties ? { protocol: 1, name, wants: ["properties"] } : { protocol: 1, name } });
}

/** What this worker does: it counts the words of a text. */
async function count(payload, task) {
  if (typeof payload?.text !== "string") throw new Dead('expected {"text": "…"}');
  const words = payload.text.split(/\s+/).filter((word) => word !== "");
  task.progress(100, `${words.length} words`);
  console.log(`${words.length} words, ${new Set(words).size} different ones`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) serve("WordCounter", count);
