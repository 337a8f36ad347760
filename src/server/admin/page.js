"use strict";
// Follows what Backstop says and puts it in place; without this it is a page as any other.
const main = document.getElementById("main");
const live = document.getElementById("live");
function show(text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const focused = document.activeElement && document.activeElement.getAttribute("aria-label");
  const left = [...main.querySelectorAll(".scroll")].map((part) => part.scrollLeft);
  main.replaceChildren(...page.body.childNodes);
  main.querySelectorAll(".scroll").forEach((part, i) => {
    part.scrollLeft = left[i] || 0;
    if (focused && part.getAttribute("aria-label") === focused) part.focus({ preventScroll: true });
  });
}
function follow() {
  const events = new EventSource("/events");
  events.onmessage = (event) => {
    if (!document.hidden) show(event.data);
    if (live.textContent !== "live") live.textContent = "live";
  };
  events.onerror = () => {
    live.textContent = "no answer from Backstop: what is shown is old";
    // It tries again by itself after all but a refusal.
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  };
}
follow();
