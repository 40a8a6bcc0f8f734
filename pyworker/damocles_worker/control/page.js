"use strict";
(() => {
  const SHOWN = 2000, HIDDEN = 20000, PATIENCE = 10000; // milliseconds
  const page = document.getElementById("page");
  const offline = document.getElementById("offline");

  // Change only what differs, so that a selection, the focus and the scroll position stay.
  function follow(old, fresh) {
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const before = [...old.childNodes], after = [...fresh.childNodes];
    after.forEach((node, place) => {
      const mine = before[place];
      if (!mine) old.append(node);
      else if (mine.nodeName !== node.nodeName) mine.replaceWith(node);
      else if (node.nodeType !== Node.TEXT_NODE) follow(mine, node);
      else if (mine.data !== node.data) mine.data = node.data;
    });
    before.slice(after.length).forEach((node) => node.remove());
  }

  function inline(from, part) {
    return from.querySelector(part).textContent;
  }

  async function refresh() {
    try {
      const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (["style", "script"].some((part) => inline(fresh, part) !== inline(document, part))) {
        location.reload(); // a worker of another version answers
        return;
      }
      document.title = fresh.title;
      follow(page, fresh.getElementById("page"));
      offline.hidden = true;
    } catch (error) {
      if (offline.hidden) {
        const seen = page.querySelector("time").textContent;
        offline.firstElementChild.textContent = `The worker has not answered since ${seen}. Below is what it said then.`;
        document.title = `no answer · ${document.title}`;
        offline.hidden = false;
      }
      page.classList.add("stale");
    }
    schedule();
  }

  let timer;
  function schedule() {
    clearTimeout(timer);
    timer = setTimeout(refresh, document.hidden ? HIDDEN : SHOWN);
  }
  document.addEventListener("visibilitychange", schedule);
  schedule();
})();
