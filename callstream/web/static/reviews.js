// Reviews by keyboard alone: the list (j, k, Enter) and one task (c, a, e, r, g, x), each kept up to date.
"use strict";
{
  const REFRESH_MS = 5000;
  const task = document.querySelector("[data-review]")?.dataset.review;
  const find = (selector) => document.querySelector(selector);
  const reviewer = find("[data-reviewer]");
  const edited = find("[data-fresh]").dataset.edited;
  const keys = find("[data-keys]");

  const say = (selector, text) => {
    for (const each of ["[data-problem]", "[data-done]"]) {
      const element = find(each);
      element.hidden = each !== selector;
      element.textContent = each === selector ? text : "";
    }
  };

  // Only what changes by itself is replaced, so that nothing that is being written is lost.
  const refresh = async () => {
    if (document.hidden) return;
    let text;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok) return;
      text = await answer.text();
    } catch {
      return;
    }
    const next = new DOMParser().parseFromString(text, "text/html").querySelector("[data-fresh]");
    const now = find("[data-fresh]");
    if (task !== undefined && next.dataset.state !== now.dataset.state && !find("dialog[open]")) location.reload();
    const chosen = document.activeElement?.dataset?.task;
    now.replaceChildren(...document.adoptNode(next).childNodes);
    now.dataset.edited = next.dataset.edited;
    if (chosen !== undefined) [...links()].find((link) => link.dataset.task === chosen)?.focus();
    callstream.showAll();
  };

  const links = () => document.querySelectorAll("[data-task]");

  const move = (by) => {
    const all = [...links()];
    const at = all.indexOf(document.activeElement);
    all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + by))]?.focus();
  };

  const named = () => {
    const name = reviewer.value.trim();
    if (!name) {
      say("[data-problem]", "Say first who you are: fill in “Reviewer”.");
      reviewer.focus();
    }
    return name;
  };

  const post = async (path, body, done) => {
    const name = named();
    if (!name) return false;
    const path_ = `/v1/reviews/${encodeURIComponent(task)}${path}`;
    const headers = { "Content-Type": "application/json" };
    try {
      const answer = await fetch(path_, { method: "POST", headers, body: JSON.stringify({ reviewer: name, ...body }) });
      const told = await answer.json();
      if (!answer.ok) {
        say("[data-problem]", told.detail);
        return false;
      }
      say("[data-done]", told.in_effect ? done(told) : "It is on its way, and not taken in yet.");
      if (told.review === "decided") location.reload();
    } catch (error) {
      say("[data-problem]", `The gateway does not answer: ${error.message}`);
      return false;
    }
    await refresh();
    return true;
  };

  const lease = (what) =>
    post(`/${what}`, {}, (told) =>
      what === "claim" ? `It is yours until ${callstream.clock.format(told.claim.until * 1000)}.` : "You gave it back.",
    );

  const edits = (form) => {
    const found = {};
    for (const area of form.querySelectorAll("textarea[data-step]"))
      if (area.value !== area.defaultValue) (found[area.dataset.step] ??= {})[area.dataset.field] = area.value;
    return found;
  };

  const decide = async (form) => {
    const verdict = form.dataset.verdict;
    const body = { verdict, reason: form.elements.reason.value };
    if (verdict === "edit") {
      body.edits = edits(form);
      if (!Object.keys(body.edits).length) body.verdict = "approve";
      if (body.verdict === "approve") delete body.edits;
    }
    const group = form.elements.group?.value.trim();
    if (group) body.group = group;
    form.closest("dialog").close();
    await refresh();
    if (find("[data-fresh]").dataset.edited !== edited) {
      say("[data-problem]", "The text was edited meanwhile: load the page again and look at it before you decide.");
      return;
    }
    await post("", body, (told) =>
      told.review === "held" ? `Noted: ${told.verdict}. The task still waits.` : `Done: ${told.verdict}.`,
    );
  };

  const open = (action) => {
    const button = find(`[data-open="${action}"]`);
    if (!button || button.disabled || !named()) return;
    const dialog = find(`[data-action="${action}"]`);
    dialog.showModal();
    const field = action === "approve" ? null : dialog.querySelector("textarea, input");
    (field ?? dialog.querySelector("button.primary")).focus();
  };

  const pressed = {
    j: () => move(1),
    k: () => move(-1),
    "?": () => keys.showModal(),
    ...(task === undefined
      ? {}
      : {
          c: () => reviewer && lease("claim"),
          a: () => open("approve"),
          e: () => open("edit"),
          r: () => open("reject"),
          g: () => open("regenerate"),
          x: () => open("escalate"),
          u: () => location.assign("/reviews"),
        }),
  };

  document.addEventListener("keydown", (event) => {
    const form = event.target.closest?.("form[data-verdict]");
    if (form && event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    const writing = event.target.matches?.("input, textarea, select");
    if (writing || event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
    if (!Object.hasOwn(pressed, event.key)) return;
    event.preventDefault();
    pressed[event.key]();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button");
    if (!button) return;
    if (button.dataset.help !== undefined) keys.showModal();
    if (button.dataset.close !== undefined) button.closest("dialog").close();
    if (button.dataset.open) open(button.dataset.open);
    if (button.dataset.do) lease(button.dataset.do);
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.dataset.verdict) return;
    event.preventDefault();
    decide(event.target);
  });
  if (reviewer) {
    reviewer.value = localStorage.getItem("callstream-reviewer") ?? "";
    reviewer.addEventListener("change", () => localStorage.setItem("callstream-reviewer", reviewer.value.trim()));
  }
  setInterval(refresh, REFRESH_MS);
}
