"""GET /v1/latency: the latency windows as series that a page can draw, one a step and model."""

from collections import defaultdict
from collections.abc import Iterable
from typing import get_args

from aiohttp import web

from callstream.streams.event import Json
from callstream.web.context import CONTEXT
from callstream.web.port import LatencyWindow, Window
from callstream.web.problems import Problem
from callstream.web.tasks import json_response

SIZES: dict[Window, float] = {"1m": 60.0, "10m": 600.0, "1h": 3600.0}
MOST_SERIES = 60
MOST_POINTS = 720
FIELDS = ("start", "count", "errors", "p50", "p95", "p99", "rate")


async def get_latency(request: web.Request) -> web.Response:
    """The windows of a size (`?window=1m`, `10m` or `1h`): the latest of each step and model, the busiest first."""
    given = request.query.get("window", "1m")
    size = next((size for size in get_args(Window) if size == given), None)
    if size is None:
        raise Problem(400, "bad-window", f"window takes one of {', '.join(get_args(Window))}")
    context = request.app[CONTEXT]
    told = series(await context.port.latency(size))
    seconds = SIZES[size]
    return json_response({"window": size, "size_seconds": seconds, "now": context.clock(), "fields": FIELDS} | told)


def series(windows: Iterable[LatencyWindow]) -> Json:
    """Windows by step and model, in order of time, as rows of `FIELDS`; bounded, and `omitted` says by how much."""
    groups: dict[tuple[str, str], list[LatencyWindow]] = defaultdict(list)
    for window in windows:
        groups[window.step, window.model].append(window)
    busiest = sorted(groups.items(), key=lambda group: (-sum(window.count for window in group[1]), group[0]))
    return {
        "series": [_series(step, model, group) for (step, model), group in busiest[:MOST_SERIES]],
        "omitted": max(0, len(busiest) - MOST_SERIES),
    }


def _series(step: str, model: str, windows: list[LatencyWindow]) -> Json:
    latest = sorted(windows, key=lambda window: window.start)[-MOST_POINTS:]
    points = [(w.start, w.count, w.errors, w.p50, w.p95, w.p99, w.rate) for w in latest]
    return {"step": step, "model": model, "points": points}
