// Expand or collapse a whole JSON tree.
"use strict";
for (const tree of document.querySelectorAll("[data-json]")) {
  const parts = tree.querySelectorAll("details");
  for (const [name, open] of [["[data-expand]", true], ["[data-collapse]", false]]) {
    const button = tree.querySelector(name);
    button.hidden = parts.length === 0;
    button.addEventListener("click", () => parts.forEach((part) => { part.open = open; }));
  }
}
