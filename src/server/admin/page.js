"use strict";
// Takes the page anew every two seconds and puts its main part in place; without this it is a page as any other.
const main = document.getElementById("main");
const live = document.getElementById("live");
async function follow() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/", { cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const focused = document.activeElement && document.activeElement.getAttribute("aria-label");
      const left = [...main.querySelectorAll(".scroll")].map((part) => part.scrollLeft);
      main.replaceChildren(...page.getElementById("main").childNodes);
      main.querySelectorAll(".scroll").forEach((part, i) => {
        part.scrollLeft = left[i] || 0;
        if (focused && part.getAttribute("aria-label") === focused) part.focus({ preventScroll: true });
      });
      if (live.textContent !== "live") live.textContent = "live";
    } catch {
      live.textContent = "no answer from Backstop: what is shown is old";
    }
  }
  setTimeout(follow, 2000);
}
setTimeout(follow, 2000);
