// Numbers that change while somebody looks: over a stream as long as the tab is seen, else by a question now and then.
// Text goes where text goes; nothing is ever made into HTML.
"use strict";
(() => {
  const places = new Map();
  for (const place of document.querySelectorAll("[data-live]")) places.set(place.dataset.live, place);
  const classes = new Map();
  for (const place of document.querySelectorAll("[data-live-class]")) classes.set(place.dataset.liveClass, place);
  const view = encodeURIComponent(location.pathname);
  const show = (news) => {
    for (const [key, text] of Object.entries(news)) {
      const place = places.get(key);
      if (place && place.textContent !== text) place.textContent = text;
      const of = classes.get(key);
      if (of && ["good", "bad", "unknown"].includes(text)) {
        of.classList.remove("good", "bad", "unknown");
        of.classList.add(text);
      }
    }
  };
  // One of them at a time: the stream, or a wait for the next question or the next try of the stream.
  let stream = null, timer = null, asking = false, failures = 0, polls = 0;
  const later = (what, time) => { timer = setTimeout(() => { timer = null; what(); }, time); };
  const poll = async () => {
    if (asking || document.hidden) return;
    asking = true;
    try {
      const answer = await fetch("/api/live?view=" + view);
      if (answer.status === 401) return location.reload();
      if (answer.ok) show(await answer.json());
    } catch { /* The page's process is away: asked again. */ } finally { asking = false; }
    polls += 1;
    // After a minute of questions the stream is tried again.
    if (!document.hidden) later(polls % 12 ? poll : open, 5000);
  };
  const open = () => {
    if (stream || timer || asking || document.hidden) return;
    if (failures >= 3 && polls % 12) return void poll();
    stream = new EventSource("/stream?view=" + view);
    stream.onmessage = (event) => { failures = polls = 0; show(JSON.parse(event.data)); };
    stream.onerror = () => {
      failures += 1;
      close();
      // Also who may not look any more is told so by the next question.
      later(failures < 3 ? open : poll, 1000 * Math.min(failures, 3));
    };
  };
  const close = () => {
    if (stream) stream.close();
    stream = null;
    if (timer) clearTimeout(timer);
    timer = null;
  };
  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else open(); });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
})();
