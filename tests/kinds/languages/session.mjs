// The session's kind in JavaScript: it does what `demo_sleep_worker` does with the same payload.
import process from "node:process";

const { Dead, Retry, serve } = await import(process.env.WORKER_MODULE);

serve("session", async (payload, task) => {
  const then = payload.then ?? "ok";
  if (then === "error") throw new Error("Oops!");
  if (then === "dead") throw new Dead("asked to");
  if (then === "retry_once" && task.attempt === 1) throw new Retry(0.1);
  if (then === "abort") process.abort();
  if (then === "segfault") process.kill(process.pid, "SIGSEGV");
  if (then === "segfault" || then === "hang") await new Promise(() => setInterval(() => {}, 1e6));
  console.log("SESSION did", payload.n);
});
