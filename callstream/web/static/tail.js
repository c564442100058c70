// The live tail: one row a task, the latest change on top, from the WebSocket with a cursor for coming back.
"use strict";
{
  const MOST_ROWS = 100;
  const STATES = new Set(["accepted", "running", "held", "finished", "rejected", "failed", "cancelled"]);
  const tail = document.querySelector("[data-tail]");
  const part = (name) => tail.querySelector(`[data-${name}]`);
  const [rows, status, filter, pause, empty] = ["rows", "status", "filter", "pause", "empty"].map(part);
  const chains = tail.dataset.chains.split(" ").filter(Boolean);
  const shown = new Map();
  const waiting = new Map();
  let paused = false;
  let pauseSeconds = 1;
  let cursor = "recent";

  const cell = (content, kind) => {
    const element = document.createElement("td");
    if (kind) element.className = kind;
    element.append(content);
    return element;
  };

  const label = (text, kind) => {
    const element = document.createElement("span");
    element.className = kind;
    element.textContent = text;
    return element;
  };

  const progress = (row) => {
    const dots = document.createElement("span");
    dots.className = "dots";
    const left = row.next ? 1 : 0;
    dots.title = `${row.steps.length} done`;
    for (let n = 0; n < row.steps.length + left && n < 24; n += 1) {
      const dot = document.createElement("i");
      if (n < row.steps.length) dot.className = "done";
      dots.append(dot);
    }
    return dots;
  };

  const render = ({ tenant, task, chain, state, row }) => {
    const line = document.createElement("tr");
    const name = document.createElement("th");
    name.scope = "row";
    const link = document.createElement("a");
    link.href = `/tasks/${encodeURIComponent(task)}`;
    link.textContent = task;
    link.title = `tenant ${tenant}`;
    name.append(link);
    const last = row.steps.at(-1);
    line.append(
      name,
      cell(label(chain, "muted")),
      cell(label(state, `state ${STATES.has(state) ? state : ""}`)),
      cell(progress(row)),
      cell(last ? label(`${last.step} ${callstream.seconds(last.seconds)}`, "muted") : "–"),
      cell(last ? callstream.seconds(row.updated - row.created) : "–", "num"),
      cell(callstream.time(row.updated)),
    );
    line.className = "fresh";
    line.dataset.text = `${task} ${chain} ${state} ${tenant}`.toLowerCase();
    return line;
  };

  const fits = (line) => line.dataset.text.includes(filter.value.trim().toLowerCase());

  const keyOf = (update) => `${update.tenant.length}:${update.tenant}:${update.task}`;

  const remove = (key) => {
    shown.get(key)?.remove();
    shown.delete(key);
  };

  const show = (update, key) => {
    remove(key);
    const line = render(update);
    line.hidden = !fits(line);
    line.dataset.key = key;
    line.dataset.updated = update.row.updated;
    shown.set(key, line);
    // What happened before this page was opened comes chain by chain, so the place is looked for, not taken for the top.
    let next = rows.firstElementChild;
    while (next && Number(next.dataset.updated) > update.row.updated) next = next.nextElementSibling;
    rows.insertBefore(line, next);
    if (shown.size > MOST_ROWS) remove(rows.lastElementChild.dataset.key);
    empty.hidden = true;
  };

  const flush = () => {
    waiting.forEach(show);
    waiting.clear();
  };

  // Of each task only the latest change waits to be shown; a task pushed out is no longer shown as it was before.
  const take = (update) => {
    cursor = update.cursor;
    const key = keyOf(update);
    waiting.delete(key);
    waiting.set(key, update);
    if (waiting.size > MOST_ROWS) {
      const oldest = waiting.keys().next().value;
      waiting.delete(oldest);
      remove(oldest);
    }
    if (paused) status.textContent = `paused, ${waiting.size}${waiting.size === MOST_ROWS ? " or more" : ""} changed`;
    else if (waiting.size === 1) requestAnimationFrame(() => { if (!paused) flush(); });
  };

  const connect = () => {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream`);
    socket.addEventListener("open", () => {
      pauseSeconds = 1;
      status.textContent = "connected";
      for (const chain of chains) socket.send(JSON.stringify({ subscribe: { chain }, after: cursor }));
    });
    socket.addEventListener("message", (event) => {
      const told = JSON.parse(event.data);
      if (told.update) take(told.update);
      else if (told.error) status.textContent = told.error.detail;
    });
    socket.addEventListener("close", () => {
      status.textContent = `connection lost, trying again in ${pauseSeconds} s`;
      setTimeout(connect, pauseSeconds * 1000);
      pauseSeconds = Math.min(30, pauseSeconds * 2);
    });
  };

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Resume" : "Pause";
    status.textContent = paused ? "paused" : "connected";
    if (!paused) flush();
  });
  filter.addEventListener("input", () => shown.forEach((line) => { line.hidden = !fits(line); }));
  status.textContent = "connecting";
  connect();
}
