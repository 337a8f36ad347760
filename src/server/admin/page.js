"use strict";
// Follows what Backstop says and puts it in place; without this it is a page as any other.
const main = document.getElementById("main");
const live = document.getElementById("live");
// Puts a part in the place of what is there, which keeps how far it was scrolled and what had the focus.
function put(part, there) {
  const focused = there.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  const left = [...there.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  there.replaceWith(part);
  part.querySelectorAll(".scroll").forEach((one, i) => {
    one.scrollLeft = left[i] || 0;
    if (focused && one.getAttribute("aria-label") === focused) one.focus({ preventScroll: true });
  });
}
// Makes the children of one element those of another. What is the same stays: it is not read out again.
function match(there, wanted) {
  const selection = document.getSelection();
  const ids = new Set([...wanted.children].map((part) => part.id));
  for (const old of [...there.children]) if (!ids.has(old.id)) old.remove();
  let before = null;
  for (const part of [...wanted.children]) {
    let old = [...there.children].find((one) => one.id === part.id);
    if (!old) {
      if (before) before.after(part); else there.prepend(part);
      old = part;
    } else if (part.id === "notices") {
      match(old, part);
    } else if (!old.isEqualNode(part) && (selection.isCollapsed || !selection.containsNode(old, true))) {
      put(part, old);
      old = part;
    }
    before = old;
  }
}
function follow() {
  const events = new EventSource("/events");
  events.onmessage = (event) => {
    if (!document.hidden) match(main, new DOMParser().parseFromString(event.data, "text/html").body);
    if (live.textContent !== "live") live.textContent = "live";
  };
  events.onerror = () => {
    live.textContent = "no answer from Backstop: what is shown is old";
    // It tries again by itself after all but a refusal.
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  };
}
follow();
