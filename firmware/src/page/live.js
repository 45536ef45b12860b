// Draws the page anew every other second, in place. Where the board does not answer, the page says since when it is old.
"use strict";
const main = document.querySelector("main");
const sign = document.getElementById("live");
let seen = new Date();
const look = async () => {
  try {
    const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(1500) });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    main.replaceChildren(...fresh.querySelector("main").childNodes);
    seen = new Date();
    sign.textContent = "live";
  } catch {
    sign.textContent = `no answer since ${seen.toLocaleTimeString()}`;
  }
  setTimeout(look, 2000);
};
look();
