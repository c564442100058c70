// A task that has not ended: load its page again when it changes.
"use strict";
{
  const heading = document.querySelector("[data-follow]");
  const source = new EventSource(heading.dataset.follow);
  let known = null;
  source.addEventListener("message", (event) => {
    const { state, sequence } = JSON.parse(event.data);
    const seen = `${state} ${sequence}`;
    if (known !== null && seen !== known) {
      source.close();
      location.reload();
    }
    known = known ?? seen;
  });
  addEventListener("pagehide", () => source.close());
}
