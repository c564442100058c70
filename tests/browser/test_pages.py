"""What people see: tables, rows, plots, the live tail, one task. In a real browser, with nothing else to reach."""

import itertools
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from callstream.streams.event import Submission
from callstream.streams.keys import partition_of, task_key
from callstream.streams.submission import Order, new_event
from callstream.web.fake import PARTITIONS
from callstream.web.options import WebOptions
from callstream.web.tables import key_query
from tests.browser.conftest import Site, serve
from tests.browser.scene import EVIL

pytestmark = pytest.mark.asyncio(loop_scope="session")


def row_url(key: bytes, table: str = "tasks") -> str:
    """The page of a row."""
    return f"/tables/{table}/row?partition={partition_of(key, PARTITIONS)}&key={key_query(key)['key']}"


def task_in(site: Site, state: str) -> str:
    """The first task in that state."""
    return str(next(row["id"] for row in site.port.tables_by_name["tasks"].values() if row["state"] == state))


async def texts(page: Page, selector: str) -> list[str]:
    return [text.strip() for text in await page.locator(selector).all_inner_texts()]


async def test_tables_are_listed_with_sizes_and_partitions(page: Page) -> None:
    await page.goto("/tables")
    row = page.locator("tr", has=page.get_by_role("link", name="receipts", exact=True))

    assert "230" in await row.inner_text()
    assert "KiB" in await row.inner_text()
    assert await row.locator(".part").count() == PARTITIONS
    assert "changelog offset" in (await row.locator(".part").first.get_attribute("title") or "")


async def test_rows_are_paged_through_once_each_and_in_order(page: Page, site: Site) -> None:
    await page.goto("/tables")
    await page.get_by_role("link", name="receipts", exact=True).click()
    seen = await texts(page, "tbody th")
    while await page.get_by_role("link", name="Next page").count():
        await page.get_by_role("link", name="Next page").click()
        seen += await texts(page, "tbody th")

    assert seen == sorted(key.decode() for key in site.port.tables_by_name["receipts"])


async def test_one_partition_and_a_prefix_narrow_the_rows(page: Page, site: Site) -> None:
    await page.goto("/tables/receipts")
    await page.get_by_role("navigation", name="Partition").get_by_role("link", name="2", exact=True).click()
    of_partition = await texts(page, "tbody td.num")
    await page.get_by_label("Key begins with").fill("7:default:tea-tin")
    await page.get_by_role("button", name="Find").click()
    found = await texts(page, "tbody th")

    assert set(of_partition) == {"2"}
    keys = [key for key in site.port.tables_by_name["receipts"] if key.startswith(b"7:default:tea-tin")]
    assert found == sorted(key.decode() for key in keys if partition_of(key, PARTITIONS) == 2)
    await page.get_by_label("Key begins with").fill("nothing")
    await page.get_by_role("button", name="Find").click()
    await expect(page.locator(".empty")).to_contain_text("No rows whose key begins with “nothing”")


async def test_one_row_is_shown_with_its_times_and_parts(page: Page, site: Site) -> None:
    task = task_in(site, "finished")
    await page.goto(row_url(task_key("default", task)))

    assert "ago" in await page.locator(".json li", has_text="created").first.inner_text()
    copy = page.get_by_text("headline")
    await page.get_by_role("button", name="Collapse all").click()
    await expect(copy).to_be_hidden()
    await page.get_by_role("button", name="Expand all").click()
    await expect(copy).to_be_visible()
    await page.get_by_role("link", name="raw JSON").click()
    assert f'"id":"{task}"' in await page.content()


async def test_what_looks_like_code_is_shown_as_text(page: Page, site: Site) -> None:
    key = next(iter(site.port.tables_by_name["receipts"]))
    await page.goto(row_url(key, "receipts"))
    assert EVIL in await page.locator(".json").inner_text()
    for path in ("/tables", "/tables/receipts"):
        await page.goto(path)
        assert "<script>" in await page.locator("main").inner_text()
        assert await page.title() != "taken"
    await page.get_by_role("navigation", name="Main").get_by_role("link", name="Tables").click()
    await page.get_by_role("link", name=EVIL).click()
    assert await texts(page, "tbody th") == [EVIL, "\\xff\\x00"]
    await page.get_by_role("link", name="\\xff").click()
    assert "bytes true" in await page.locator(".json").inner_text()
    await page.go_back()
    await page.get_by_role("link", name=EVIL).click()

    assert await page.locator(".json").inner_text() != ""
    assert await page.title() != "taken"
    assert await page.locator("main script, main img").count() == 0


async def test_latency_windows_are_drawn(page: Page, site: Site) -> None:
    await page.goto("/tables")
    cards = page.locator(".plot")
    await expect(cards).to_have_count(5)
    drawn = await page.evaluate(COLOURS_DRAWN)

    assert await page.locator("canvas").count() == 10
    assert all({"p50", "p95", "p99"} <= set(colours) for colours in drawn[::2])
    assert all("rate" in colours for colours in drawn[1::2])
    assert any("errors" in colours for colours in drawn[1::2])
    write = cards.filter(has=page.get_by_role("heading", name="write"))
    assert "glm-4-flash" in await write.inner_text()
    await write.get_by_text("As a table").click()
    latest = max((w for w in site.port.windows["1m"] if w.step == "write"), key=lambda window: window.start)
    assert str(latest.count) in await write.locator("tbody tr").first.inner_text()

    await page.get_by_role("button", name="1 hour").click()
    await expect(write.locator(".hint")).to_contain_text("30 windows")
    site.port.windows.clear()
    await page.get_by_role("button", name="10 minutes").click()
    await expect(page.get_by_text("No window of this size is kept yet")).to_be_visible()
    await expect(cards).to_have_count(0)


COLOURS_DRAWN = """() => [...document.querySelectorAll("canvas")].map((canvas) => {
  const probe = document.createElement("canvas").getContext("2d");
  const rgb = (text) => {
    probe.fillStyle = text;
    probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data];
  };
  const style = getComputedStyle(document.documentElement);
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const parts = [0, 1, 2];
  const isDrawn = (name) => {
    const wanted = rgb(style.getPropertyValue("--" + name));
    for (let at = 0; at < pixels.length; at += 4)
      if (pixels[at + 3] > 200 && parts.every((part) => Math.abs(wanted[part] - pixels[at + part]) < 12)) return true;
    return false;
  };
  return ["p50", "p95", "p99", "rate", "errors"].filter(isDrawn);
})"""


async def test_the_tail_is_live(page: Page, site: Site) -> None:
    await page.goto("/")
    rows = page.locator("[data-rows] tr")
    await expect(page.locator("[data-status]")).to_have_text("connected")
    # The status says so before the last of the recent tasks has come.
    await expect(rows.nth(20)).to_be_attached()
    given = Submission(chain="product-copy", input={"title": "Mug"})
    await site.port.submit(new_event(given, Order("default", "brand-new"), time.time()))
    await expect(rows.first).to_contain_text("brand-new")
    await expect(rows.first).to_contain_text("accepted")
    site.port.advance("default", "brand-new")
    site.port.end("default", "brand-new", "failed")
    await expect(rows.first).to_contain_text("failed")

    assert await rows.filter(has_text="brand-new").count() == 1
    await page.get_by_label("Filter").fill("BRAND")
    await expect(rows.filter(visible=True)).to_have_count(1)
    await page.get_by_role("link", name="brand-new").click()
    await expect(page.get_by_role("heading", name="brand-new")).to_be_visible()


async def test_a_paused_tail_holds_still_and_catches_up(page: Page, site: Site) -> None:
    await page.goto("/")
    await expect(page.locator("[data-status]")).to_have_text("connected")
    await page.get_by_role("button", name="Pause").click()
    given = Submission(chain="product-copy", input={"title": "Mug"})
    await site.port.submit(new_event(given, Order("default", "later"), time.time()))
    await expect(page.locator("[data-status]")).to_have_text("paused, 1 changed")
    held_back = await page.get_by_role("link", name="later").count()
    await page.get_by_role("button", name="Resume").click()

    await expect(page.get_by_role("link", name="later")).to_be_visible()
    assert held_back == 0


async def test_a_page_of_a_task_follows_it(page: Page, site: Site) -> None:
    task = task_in(site, "running")
    await page.goto(f"/tasks/{task}")
    await expect(page.locator(".facts .state")).to_have_text("running")
    await page.wait_for_function("performance.getEntriesByType('resource').length > 0")
    await page.wait_for_timeout(300)
    site.port.end("default", task, result={"copy": "A good one."})

    await expect(page.locator(".facts .state")).to_have_text("finished")
    await expect(page.get_by_role("heading", name="Result")).to_be_visible()


async def test_an_answer_grows_on_the_page_of_its_task_as_text(page: Page, site: Site) -> None:
    task = task_in(site, "running")
    written = page.locator("#written")
    await page.goto(f"/tasks/{task}")
    await expect(page.locator(".facts .state")).to_have_text("running")
    await expect(written).to_be_hidden()
    await page.wait_for_function("performance.getEntriesByType('resource').length > 0")
    await page.wait_for_timeout(300)
    await page.evaluate("window.isTheSamePage = true")
    for text in ("A mug", "A mug of <b>stoneware</b>"):
        site.port.write("default", task, "copy", text)
        await expect(written.locator("[data-text]")).to_have_text(text)
    await expect(written.locator("[data-step]")).to_have_text("copy, 25 characters")
    assert await page.evaluate("window.isTheSamePage")

    await page.reload()
    await expect(written.locator("[data-text]")).to_have_text("A mug of <b>stoneware</b>")


async def test_a_held_task_says_why(page: Page, site: Site) -> None:
    await page.goto(f"/tasks/{task_in(site, 'held')}")

    await expect(page.locator(".notice")).to_contain_text("cures back pain")
    await expect(page.locator("tr.next")).to_contain_text("waits for a person")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_can_be_read(page: Page, scheme: Any) -> None:
    await page.emulate_media(color_scheme=scheme)
    await page.goto("/")
    ratios = await page.evaluate(CONTRASTS)

    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}


CONTRASTS = """() => {
  const probe = document.createElement("canvas").getContext("2d");
  const light = (text) => {
    probe.fillStyle = text;
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...probe.getImageData(0, 0, 1, 1).data].map((part) => part / 255)
      .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = getComputedStyle(document.documentElement);
  const of = (name) => light(style.getPropertyValue("--" + name));
  const ratios = {};
  for (const ink of ["ink", "muted", "accent", "good", "warn", "bad", "run", "out"])
    for (const ground of ["bg", "panel", "soft"]) {
      const [low, high] = [of(ink), of(ground)].sort((a, b) => a - b);
      ratios[`${ink} on ${ground}`] = (high + 0.05) / (low + 0.05);
    }
  return ratios;
}"""


@pytest.mark.parametrize(("width", "path"), [*itertools.product([360, 1280], ["/", "/tables", "/tables/receipts"])])
async def test_pages_fit_their_window_and_name_their_parts(page: Page, width: int, path: str) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    await page.goto(path)
    await page.wait_for_load_state("networkidle")

    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await page.locator("main").count() == 1
    assert await page.locator("h1").count() >= 1
    assert await page.locator("input:not([type=hidden])").count() == await page.locator("label input").count()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()


async def test_with_keys_the_browser_asks_for_one(chromium: Browser) -> None:
    key = "operate-0123456789"
    keys = {"api_keys": [{"key": key, "tenant": "default", "role": "operate"}]}
    async with AsyncExitStack() as stack:
        site = await serve(stack, WebOptions.model_validate(keys))
        known = await stack.enter_async_context(
            await chromium.new_context(base_url=site.url, http_credentials={"username": "me", "password": key})
        )
        stranger = await stack.enter_async_context(await chromium.new_context(base_url=site.url))
        page = await known.new_page()
        await page.goto("/")
        await expect(page.locator("[data-status]")).to_have_text("connected")
        await page.goto("/tables")
        await expect(page.locator(".plot")).to_have_count(5)
        refused = await (await stranger.new_page()).request.get("/tables")

    assert refused.status == 401


async def test_errors_are_pages_too(chromium: Browser, site: Site) -> None:
    async with await chromium.new_context(base_url=site.url) as context:
        page = await context.new_page()
        response = await page.goto("/tables/none")

        assert response is not None
        assert response.status == 404
        await expect(page.get_by_role("heading", name="Unknown table")).to_be_visible()
