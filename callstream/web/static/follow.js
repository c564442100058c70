// A task that has not ended: load its page again when it changes.
"use strict";
{
  const heading = document.querySelector("[data-follow]");
  const source = new EventSource(heading.dataset.follow);
  let known = null;
  source.addEventListener("message", (event) => {
    const { state, row } = JSON.parse(event.data);
    const seen = `${state} ${row.steps.length}`;
    if (known !== null && seen !== known) {
      source.close();
      location.reload();
    }
    known = known ?? seen;
    if (row.partial) show(row.partial);
  });
  const written = document.getElementById("written");
  const show = ({ step, start, characters, text }) => {
    written.hidden = false;
    written.querySelector("[data-step]").textContent = `${step}, ${characters.toLocaleString("en")} characters`;
    written.querySelector("[data-text]").textContent = (start > 0 ? "…" : "") + text;
  };
  addEventListener("pagehide", () => source.close());
}
