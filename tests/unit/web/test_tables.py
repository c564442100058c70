"""The pages of the tables without a browser: what is asked of the port, what is refused, what goes to others."""

import time
from dataclasses import replace

import pytest
from aiohttp import encode_basic_auth

from callstream.streams.chain import Chains
from callstream.streams.keys import partition_of, task_key
from callstream.web.fake import PARTITIONS, FakePort
from callstream.web.latency import MOST_POINTS, MOST_SERIES, series
from callstream.web.port import LatencyWindow, TableInfo
from callstream.web.tables import key_query, key_text
from tests.unit.web.conftest import Client, Start, submission

HTML = {"Accept": "text/html"}


@pytest.mark.parametrize(
    "path",
    ["/", "/tables", "/tables/tasks", "/tasks/mug-1", "/v1/tables", "/v1/latency", "/static/icon.svg", "/favicon.ico"],
)
async def test_pages_are_there(client: Client, path: str) -> None:
    await client.post("/v1/tasks", json=submission(id="mug-1"))

    assert (await client.get(path)).status == 200
    assert (await client.head(path)).status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/tables/none", 404),
        ("/tables/tasks?partition=99", 404),
        ("/tables/tasks?partition=x", 404),
        ("/tables/tasks?limit=0", 400),
        ("/tables/tasks?limit=201", 400),
        ("/tables/tasks?after_hex=zz", 400),
        ("/tables/tasks/row", 400),
        ("/tables/tasks/row?partition=0", 400),
        ("/tables/tasks/row?partition=0&key=none", 404),
        ("/tables/tasks/row?partition=0&key=" + "x" * 1001, 400),
        ("/tasks/none", 404),
        ("/tasks/-", 400),
        ("/v1/latency?window=2m", 400),
        ("/static/none", 404),
        ("/static/../pages.py", 404),
        ("/static/vendor", 404),
    ],
)
async def test_what_is_not_there_is_told(client: Client, path: str, status: int) -> None:
    as_json, as_page = await client.get(path), await client.get(path, headers=HTML)

    assert (as_json.status, as_json.content_type) == (status, "application/problem+json")
    assert as_page.status == status
    assert path.startswith("/v1/") or as_page.content_type == "text/html"


async def test_an_engine_that_is_away_is_told(client: Client, port: FakePort) -> None:
    port.unavailable = "tables are being recovered"

    page = await client.get("/tables", headers=HTML)

    assert (page.status, page.headers["Retry-After"]) == (503, "1")
    assert "tables are being recovered" in await page.text()


async def test_a_row_is_shown_as_it_is(client: Client) -> None:
    await client.post("/v1/tasks", json=submission(id="mug-1"))
    key = task_key("default", "mug-1")
    path = f"/tables/tasks/row?partition={partition_of(key, PARTITIONS)}&key={key.decode()}"

    raw, page = await client.get(path + "&raw=1"), await client.get(path)

    assert (await raw.json())["id"] == "mug-1"
    assert "mug-1" in await page.text()


async def test_files_are_kept_by_their_version(client: Client) -> None:
    by_version, plain = await client.get("/static/tail.js?v=1"), await client.get("/static/tail.js")

    assert "immutable" in by_version.headers["Cache-Control"]
    assert plain.headers["Cache-Control"] == "no-cache"
    assert plain.content_type == "text/javascript"


async def test_a_partition_of_another_worker_is_shown_by_it(start: Start, chains: Chains) -> None:
    class Elsewhere(FakePort):
        """All of its partitions are on another worker."""

        url = ""

        async def tables(self) -> tuple[TableInfo, ...]:
            """As ever, with an owner."""
            tables = await super().tables()
            return tuple(replace(t, partitions=tuple(replace(p, owner=self.url) for p in t.partitions)) for t in tables)

    here, there = Elsewhere(chains, time.time), FakePort(chains, time.time)
    client, other = await start(here), await start(there)
    here.url = str(other.make_url("/"))
    await other.post("/v1/tasks", json=submission(id="mug-1"))
    key = task_key("default", "mug-1")
    partition = partition_of(key, PARTITIONS)

    rows = await client.get(f"/tables/tasks?partition={partition}")
    row = await client.get(f"/tables/tasks/row?partition={partition}&key={key.decode()}")
    own = await client.get("/tables/tasks")

    assert "mug-1" in await rows.text()
    assert "mug-1" in await row.text()
    assert "mug-1" not in await own.text()


async def test_a_browser_without_a_key_is_asked_for_one(start: Start) -> None:
    keys = ({"key": "operate-0123456789", "tenant": "acme", "role": "operate"},)
    client = await start(api_keys=keys)

    asked = await client.get("/tables", headers=HTML)
    shown = {"Authorization": encode_basic_auth("", "operate-0123456789")}
    let_in = await client.get("/tables", headers=HTML | shown)

    assert (asked.status, let_in.status) == (401, 200)
    assert asked.headers["WWW-Authenticate"].startswith("Basic")


def window(step: str, start: float, count: int = 1) -> LatencyWindow:
    return LatencyWindow(step, "", start, 60.0, count, 0, 0.1, 0.2, 0.3, count / 60)


def test_windows_become_series_in_order_and_in_bounds() -> None:
    told = series([window("a", 60), window("b", 0, 5), window("a", 0)])
    many = series([window(f"s{n}", 0) for n in range(MOST_SERIES + 5)])
    long = series([window("a", 60.0 * n) for n in range(MOST_POINTS + 5)])

    assert [each["step"] for each in told["series"]] == ["b", "a"]
    assert [point[0] for point in told["series"][1]["points"]] == [0, 60]
    assert (len(many["series"]), many["omitted"]) == (MOST_SERIES, 5)
    assert long["series"][0]["points"][0][0] == 300


def test_keys_that_are_no_text_are_still_keys() -> None:
    assert key_query(b"4:acme:mug") == {"key": "4:acme:mug"}
    assert key_query(b"\xff\x00") == {"key_hex": "ff00"}
    assert key_text(b"a\xff\x00") == "a\\xff\\x00"
