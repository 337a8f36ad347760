"use strict";
// Follows what Backstop says and puts it in place; without this it is a page as any other.
const main = document.getElementById("main");
const live = document.getElementById("live");
function say(text) {
  // What is said anew is read out anew.
  if (live.textContent !== text) live.textContent = text;
}
// Makes one node the same as another, and touches only what differs: focus, scrolling and where somebody reads stay.
function become(there, wanted) {
  if (there.isEqualNode(wanted)) return;
  if (there.nodeName !== wanted.nodeName) return there.replaceWith(wanted);
  if (there.nodeType === Node.TEXT_NODE) { there.data = wanted.data; return; }
  for (const { name } of [...there.attributes]) if (!wanted.hasAttribute(name)) there.removeAttribute(name);
  for (const { name, value } of [...wanted.attributes]) if (there.getAttribute(name) !== value) there.setAttribute(name, value);
  const old = [...there.childNodes];
  const all = [...wanted.childNodes];
  all.forEach((node, i) => { if (old[i]) become(old[i], node); else there.append(node); });
  old.slice(all.length).forEach((node) => node.remove());
}
// The same for children that are known by their ids. A part in which something is selected stays as it is; says whether one does.
function match(there, wanted) {
  const selection = document.getSelection();
  const ids = new Set([...wanted.children].map((part) => part.id));
  for (const old of [...there.children]) if (!ids.has(old.id)) old.remove();
  let before = null;
  let kept = false;
  for (const part of [...wanted.children]) {
    let old = [...there.children].find((one) => one.id === part.id);
    if (!old) {
      if (before) before.after(part); else there.prepend(part);
      old = part;
    } else if (part.id === "notices") {
      kept = match(old, part) || kept;
    } else if (!selection.isCollapsed && selection.containsNode(old, true)) {
      kept = true;
    } else {
      become(old, part);
    }
    before = old;
  }
  return kept;
}
function follow() {
  const events = new EventSource("/events");
  events.onmessage = (event) => {
    if (document.hidden) return;
    const kept = match(main, new DOMParser().parseFromString(event.data, "text/html").body);
    say(kept ? "live, but for the part in which something is selected" : "live");
  };
  events.onerror = () => {
    say("no answer from Backstop: what is shown is old");
    // It tries again by itself after all but a refusal.
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  };
}
follow();
