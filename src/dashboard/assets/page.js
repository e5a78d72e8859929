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
  let stream = null, timer = null, failures = 0;
  const poll = async () => {
    timer = null;
    if (document.hidden) return;
    try {
      const answer = await fetch("/api/live?view=" + view);
      if (answer.status === 401) return location.reload();
      if (answer.ok) show(await answer.json());
    } catch { /* The page's process is away: asked again. */ }
    timer = setTimeout(poll, 5000);
  };
  const open = () => {
    if (stream || timer || document.hidden) return;
    if (failures >= 3) return void poll();
    stream = new EventSource("/stream?view=" + view);
    stream.onmessage = (event) => { failures = 0; show(JSON.parse(event.data)); };
    stream.onerror = () => {
      failures += 1;
      close();
      timer = setTimeout(() => { timer = null; open(); }, 1000 * failures);
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
