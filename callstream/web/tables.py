"""Pages of the tables: which there are, their rows page by page, one row."""

from urllib.parse import urlencode

from aiohttp import web

from callstream.streams import strict_json
from callstream.web.context import CONTEXT, Context
from callstream.web.pages import PAGES
from callstream.web.port import Page, PageRequest, PartitionInfo, Row, TableInfo, UnknownTable
from callstream.web.problems import Problem
from callstream.web.proxy import HOP
from callstream.web.tasks import json_response
from callstream.web.tree import tree, visible

MOST_ROWS = 200
USUAL_ROWS = 50
_MOST_KEY_CHARACTERS = 1000
_LATEST_FIRST = ("updated", "answered", "decided", "started", "created")
_SHOWN_ELSEWHERE = frozenset({"state", "tenant", "id", "digest", *_LATEST_FIRST})


async def get_tables(request: web.Request) -> web.Response:
    """GET /tables: every table with its sizes, and the latency windows."""
    tables = await request.app[CONTEXT].port.tables()
    return request.app[PAGES].render(request, "tables.html", {"tables": [_summary(table) for table in tables]})


async def get_tables_json(request: web.Request) -> web.Response:
    """GET /v1/tables: the same for programs."""
    tables = await request.app[CONTEXT].port.tables()
    return json_response({"tables": [_summary(table) for table in tables]})


async def get_rows(request: web.Request) -> web.StreamResponse:
    """GET /tables/{table}?partition=&prefix=&after=&limit=: rows in the order of their keys.

    Without a partition those of all that this worker has, which merge into one order.
    """
    context = request.app[CONTEXT]
    table = await _table(context, request.match_info["table"])
    chosen = _partition(request, table)
    if chosen is not None and chosen.owner is not None and HOP not in request.headers:
        return await context.proxy.forward(request, chosen.owner)
    prefix, after = request.query.get("prefix", "")[:_MOST_KEY_CHARACTERS], _key(request, "after")
    limit = _limit(request)
    parts = [chosen] if chosen is not None else [part for part in table.partitions if part.owner is None]
    found: list[tuple[Row, int]] = []
    more = False
    for part in parts:
        asked = PageRequest(part.partition, after, limit, prefix.encode("utf-8", "replace"))
        page = await _page(context, table.name, asked)
        found.extend((row, part.partition) for row in page.rows)
        more = more or page.more
    found.sort(key=lambda entry: entry[0].key)
    shown = found[:limit]
    kept = {"prefix": prefix} | ({"partition": str(chosen.partition)} if chosen else {}) | {"limit": str(limit)}
    more = more or len(found) > limit
    following = urlencode(kept | key_query(shown[-1][0].key, "after")) if more and shown else None
    listed = [_shown(row, partition) for row, partition in shown]
    names = {
        "table": _summary(table),
        "chosen": chosen.partition if chosen else None,
        "prefix": prefix,
        "is_first": after is None,
        "first": urlencode(kept),
        "following": following,
        "rows": listed,
        "has_state": any(row["state"] is not None for row in listed),
        "has_time": any(row["updated"] is not None for row in listed),
    }
    return request.app[PAGES].render(request, "rows.html", names)


async def get_row(request: web.Request) -> web.StreamResponse:
    """GET /tables/{table}/row?partition=&key=: one row, as a page or (`raw=1`) as JSON."""
    context = request.app[CONTEXT]
    table = await _table(context, request.match_info["table"])
    part, key = _partition(request, table), _key(request, "key")
    if part is None or key is None:
        raise Problem(400, "bad-row", "give the row's partition and key")
    if part.owner is not None and HOP not in request.headers:
        return await context.proxy.forward(request, part.owner)
    try:
        value = await context.port.row(table.name, part.partition, key)
    except UnknownTable as error:
        raise Problem(404, "unknown-table", str(error)) from None
    if value is None:
        raise Problem(404, "unknown-row", "no row has this key now; it may have expired")
    if "raw" in request.query:
        return json_response(value)
    names = {
        "table": _summary(table),
        "partition": part.partition,
        "key": key_text(key),
        "row": value,
        "size": len(strict_json.dumps(value)),
        "tree": tree(table.name, value),
        "raw": urlencode({"partition": part.partition, "raw": 1} | key_query(key)),
    }
    return request.app[PAGES].render(request, "row.html", names)


def key_text(key: bytes) -> str:
    """A key as people read it."""
    return visible(key.decode("utf-8", "backslashreplace"))


def key_query(key: bytes, name: str = "key") -> dict[str, str]:
    """A key as parameters of a URL: as text, or in hexadecimal where it is none."""
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError:
        return {f"{name}_hex": key.hex()}
    return {name: text}


def _key(request: web.Request, name: str) -> bytes | None:
    text, digits = request.query.get(name), request.query.get(f"{name}_hex")
    try:
        key = bytes.fromhex(digits) if digits is not None else None if text is None else text.encode()
    except ValueError:
        raise Problem(400, "bad-key", f"{name} is no key") from None
    if key is not None and len(key) > _MOST_KEY_CHARACTERS:
        raise Problem(400, "bad-key", f"{name} is longer than any key")
    return key


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(USUAL_ROWS))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_ROWS):
        raise Problem(400, "bad-limit", f"limit takes 1 to {MOST_ROWS}")
    return int(text)


async def _table(context: Context, name: str) -> TableInfo:
    tables = await context.port.tables()
    for table in tables:
        if table.name == name:
            return table
    known = ", ".join(table.name for table in tables) or "none"
    raise Problem(404, "unknown-table", f"no table of that name is here; there are: {known}")


def _partition(request: web.Request, table: TableInfo) -> PartitionInfo | None:
    text = request.query.get("partition")
    if not text:
        return None
    for part in table.partitions:
        if str(part.partition) == text:
            return part
    raise Problem(404, "unknown-partition", f"table {table.name} has no such partition")


async def _page(context: Context, table: str, asked: PageRequest) -> Page:
    try:
        return await context.port.rows(table, asked)
    except UnknownTable as error:
        raise Problem(404, "unknown-table", str(error)) from None


def _summary(table: TableInfo) -> dict[str, object]:
    known = [part for part in table.partitions if part.keys is not None or part.size_bytes is not None]
    return {
        "name": table.name,
        "service": table.service,
        "description": table.description,
        "keys": sum(part.keys or 0 for part in known),
        "size_bytes": sum(part.size_bytes or 0 for part in known),
        "most_keys": max((part.keys or 0 for part in known), default=0),
        "elsewhere": sum(part.owner is not None for part in table.partitions),
        "partitions": [
            {"partition": p.partition, "keys": p.keys, "size_bytes": p.size_bytes, "offset": p.offset, "owner": p.owner}
            for p in table.partitions
        ],
    }


def _shown(row: Row, partition: int) -> dict[str, object]:
    """A row for a list: its key, a link, and the members that tell most."""
    state = row.value.get("state")
    moments = [row.value.get(name) for name in _LATEST_FIRST]
    times = [moment for moment in moments if isinstance(moment, int | float) and 1e9 <= moment < 4.1e9]
    return {
        "key": key_text(row.key),
        "link": urlencode({"partition": partition} | key_query(row.key)),
        "partition": partition,
        "state": state if isinstance(state, str) else None,
        "updated": times[0] if times else None,
        "rest": {name: each for name, each in row.value.items() if name not in _SHOWN_ELSEWHERE},
    }
