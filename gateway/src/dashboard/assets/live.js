// Replaces the pieces of a page that have changed. Without it, or where it cannot connect, the page is as it was loaded.
"use strict";
const sign = document.getElementById("live");
const say = (word) => { if (sign && sign.textContent !== word) sign.textContent = word; };
const replace = (id, html) => {
  const old = document.getElementById(id);
  if (!old) return;
  const box = document.createElement("template");
  box.innerHTML = html;
  const fresh = box.content.firstElementChild;
  if (!fresh) return;
  // Whoever moves by keyboard stays where they are.
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  old.replaceWith(fresh);
  if (focused) document.getElementById(focused)?.focus();
};
const source = new EventSource(document.body.dataset.live);
source.onopen = () => say("live");
source.onerror = () => {
  // A stream that was refused is not tried again by itself.
  if (source.readyState === EventSource.CLOSED) { say("not live"); setTimeout(() => location.reload(), 30000); }
  else say("connecting");
};
source.onmessage = (event) => {
  say("live");
  for (const [id, html] of Object.entries(JSON.parse(event.data))) replace(id, html);
};
