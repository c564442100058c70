// Times as this reader's clock has them: near ones as "3 min ago", far ones as date and time, the exact one on hover.
"use strict";
const callstream = {
  clock: new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" }),
  day: new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" }),

  ago(moment) {
    const seconds = (Date.now() - moment) / 1000;
    const ahead = seconds < -1;
    const size = Math.abs(seconds);
    if (size > 86400) return callstream.day.format(moment);
    let text = `${Math.floor(size)} s`;
    if (size >= 3600) text = `${Math.floor(size / 3600)} h ${Math.floor((size % 3600) / 60)} min`;
    else if (size >= 60) text = `${Math.floor(size / 60)} min`;
    else if (size < 1) return "now";
    return ahead ? `in ${text}` : `${text} ago`;
  },

  seconds(value) {
    if (!Number.isFinite(value)) return "–";
    if (value < 0) return `-${callstream.seconds(-value)}`;
    if (value < 1) return `${Number((value * 1000).toPrecision(3))} ms`;
    if (value < 60) return `${Number(value.toPrecision(3))} s`;
    if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
    return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
  },

  time(seconds) {
    const element = document.createElement("time");
    element.dateTime = new Date(seconds * 1000).toISOString();
    callstream.show(element);
    return element;
  },

  show(element) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) return;
    element.title = moment.toISOString().replace("T", " ").replace("Z", " UTC");
    const text = callstream.ago(moment);
    if (element.textContent !== text) element.textContent = text;
  },

  showAll() {
    document.querySelectorAll("time[datetime]").forEach(callstream.show);
  },
};
callstream.showAll();
setInterval(callstream.showAll, 5000);
