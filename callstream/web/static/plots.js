// The latency windows as plots: one card a step and model, percentiles above, rate and errors below.
"use strict";
{
  const REFRESH_SECONDS = 10;
  const section = document.querySelector("[data-plots]");
  const part = (name) => section.querySelector(`[data-${name}]`);
  const [cards, status, empty] = ["cards", "status", "empty"].map(part);
  const buttons = section.querySelectorAll("[data-window]");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const known = new Map();
  let chosen = "1m";
  let asked = 0;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  const make = (tag, kind, text) => {
    const element = document.createElement(tag);
    if (kind) element.className = kind;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // Columns for the plots: a window in which nothing finished is a gap in percentiles and zero in rate.
  const columns = (points, size, now) => {
    const columns = [[], [], [], [], [], []];
    let next = null;
    const put = (...values) => values.forEach((value, at) => columns[at].push(value));
    for (const [start, count, errors, p50, p95, p99, rate] of points) {
      if (next !== null && start > next + size / 2) {
        put(next, null, null, null, 0, 0);
        if (start - size > next) put(start - size, null, null, null, 0, 0);
      }
      const timed = count > 0;
      put(start, timed ? p50 : null, timed ? p95 : null, timed ? p99 : null, rate, errors);
      next = start + size;
    }
    if (next !== null && next + size < now) put(next, null, null, null, 0, 0);
    return columns;
  };

  const axis = (values, size) => ({
    stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif",
    ...(values ? { values: (_, ticks) => ticks.map(values), size } : {}),
  });

  const times = (size) => ({ ...axis(), size: 24, gap: 4, space: 70, values: (_, ticks) => ticks.map((tick) => {
    const moment = new Date(tick * 1000);
    const time = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    return size < 3600 || moment.getHours() ? time : moment.toLocaleDateString([], { day: "numeric", month: "short" });
  }) });

  // The errors' axis takes room at the right of the lower plot; the upper one leaves it free, so that times align.
  const ERRORS_WIDTH = 30;
  const common = (width, height, now, span, padding) => ({
    width, height, legend: { show: false }, padding,
    cursor: { sync: { key: "latency" }, drag: { x: false, y: false }, points: { size: 5 } },
    scales: { x: { range: () => [now - span, now] }, y: { range: (_, __, most) => [0, (most || 1) * 1.1] },
      errors: { range: (_, __, most) => [0, Math.max(4, most * 1.1)] } },
  });

  const line = (name) => ({ label: name, stroke: colour(name), width: 1.6, points: { size: 4, fill: colour(name), stroke: colour(name) } });

  const draw = (card, { points }, { size_seconds: size, now }) => {
    const data = columns(points, size, now);
    const span = Math.max(size * 20, now - (points[0]?.[0] ?? now) + size);
    const width = Math.max(220, card.plots.clientWidth);
    card.drawn.forEach((plot) => plot.destroy());
    const latency = new uPlot({ ...common(width, 150, now, span, [8, ERRORS_WIDTH, 0, 0]),
      series: [{}, line("p50"), line("p95"), line("p99")],
      axes: [times(size), axis(callstream.seconds, 62)],
    }, data.slice(0, 4), card.plots);
    const rate = new uPlot({ ...common(width, 84, now, span, [8, 0, 8, 0]),
      series: [{}, { label: "rate", stroke: colour("rate"), width: 1.2, fill: colour("rate-fill"), points: { show: false } },
        { label: "errors", scale: "errors", stroke: colour("errors"), fill: colour("errors"), width: 0, points: { show: false },
          paths: uPlot.paths.bars({ size: [0.5, 8, 2] }) }],
      axes: [{ ...times(size), show: false }, { ...axis((tick) => `${Number(tick.toPrecision(3))}/s`, 62), space: 28 },
        { ...axis((tick) => (Number.isInteger(tick) ? String(tick) : ""), ERRORS_WIDTH), side: 1, scale: "errors", grid: { show: false }, space: 28, stroke: colour("errors") }],
    }, [data[0], data[4], data[5]], card.plots);
    card.drawn = [latency, rate];
  };

  const figures = (card, { points }) => {
    const [, count, errors, p50, p95, p99, rate] = points.at(-1);
    const failed = points.reduce((sum, point) => sum + point[2], 0);
    const finished = points.reduce((sum, point) => sum + point[1], 0);
    const list = [["p50", callstream.seconds(p50)], ["p95", callstream.seconds(p95)], ["p99", callstream.seconds(p99)],
      ["rate", `${Number(rate.toPrecision(3))}/s`], ["errors", String(errors), errors > 0 ? "bad" : ""]];
    card.figures.replaceChildren(...list.map(([name, value, kind]) => {
      const pair = make("div");
      pair.append(make("dt", "", name), make("dd", kind, value));
      return pair;
    }));
    card.total.textContent = `${finished.toLocaleString()} calls, ${failed.toLocaleString()} errors in ${points.length} windows`;
    card.plots.setAttribute("aria-label", `Latest window: ${count} calls, ${list.map((each) => each.slice(0, 2).join(" ")).join(", ")}`);
  };

  const fill = (card, { points }) => {
    card.body.replaceChildren(...points.slice(-60).reverse().map(([start, count, errors, ...rest]) => {
      const row = make("tr");
      const when = make("th");
      when.scope = "row";
      when.append(callstream.clock.format(start * 1000));
      const [p50, p95, p99, rate] = rest;
      row.append(when, ...[count, errors, callstream.seconds(p50), callstream.seconds(p95), callstream.seconds(p99), Number(rate.toPrecision(3))]
        .map((text) => make("td", "num", String(text))));
      return row;
    }));
  };

  const create = ({ step, model }) => {
    const card = { element: make("article", "card plot"), drawn: [], plots: make("div"), figures: make("dl", "figures"), total: make("span", "hint"), body: make("tbody") };
    card.plots.setAttribute("role", "img");
    const header = make("header");
    header.append(make("h2", "", step), make("span", "muted", model), make("span", "grow"), card.total);
    const details = make("details");
    const scroll = make("div", "scroll");
    const table = make("table");
    const head = make("thead");
    const names = make("tr");
    ["Window", "Calls", "Errors", "p50", "p95", "p99", "Rate/s"].forEach((name, at) => {
      const cell = make("th", at ? "num" : "", name);
      cell.scope = "col";
      names.append(cell);
    });
    head.append(names);
    table.append(head, card.body);
    scroll.append(table);
    details.append(make("summary", "", "As a table"), scroll);
    card.element.append(header, card.figures, card.plots, details);
    return card;
  };

  let latest = null;
  const show = (told) => {
    latest = told;
    const names = new Set();
    for (const series of told.series) {
      const name = `${series.step}\n${series.model}`;
      names.add(name);
      if (!known.has(name)) known.set(name, create(series));
      const card = known.get(name);
      cards.append(card.element);
      figures(card, series);
      fill(card, series);
      draw(card, series, told);
    }
    for (const [name, card] of known) {
      if (names.has(name)) continue;
      card.drawn.forEach((plot) => plot.destroy());
      card.element.remove();
      known.delete(name);
    }
    empty.hidden = told.series.length > 0;
    const more = told.omitted ? `, ${told.omitted} quieter ones not shown` : "";
    status.textContent = `updated ${callstream.clock.format(told.now * 1000)}${more}`;
  };

  const load = async () => {
    asked += 1;
    const mine = asked;
    try {
      const response = await fetch(`/v1/latency?window=${chosen}`, { signal: AbortSignal.timeout(8000) });
      const told = await response.json();
      if (mine !== asked) return;
      if (response.ok) show(told);
      else status.textContent = told.detail;
    } catch {
      if (mine === asked) status.textContent = "the gateway does not answer";
    }
  };

  buttons.forEach((button) => button.addEventListener("click", () => {
    chosen = button.dataset.window;
    buttons.forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
    load();
  }));
  let resizing = 0;
  const again = () => { if (latest) show(latest); };
  addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(again, 150); });
  dark.addEventListener("change", again);
  load();
  setInterval(() => { if (!document.hidden) load(); }, REFRESH_SECONDS * 1000);
}
