"""What reviewers see and do, by keyboard alone: the list, one task, its findings, and every decision."""

import time
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from callstream.streams.event import Json, Submission
from callstream.streams.keys import task_key
from callstream.streams.review import opened
from callstream.streams.submission import Order, new_event
from callstream.web.held import held_event
from tests.browser.conftest import Site
from tests.browser.scene import EVIL

pytestmark = pytest.mark.asyncio(loop_scope="session")

COPY = "The best mug in the world."
TURNED = "safe \u202egnp.exe"


async def hold(site: Site, task: str, copy: str = COPY, reason: str = "a superlative", **review: Any) -> None:
    """A task that waits for a person, with a finding in its text."""
    given: Json = {"title": "Mug", "photo": "blob:" + "a" * 64}
    event = new_event(Submission(chain="product-copy", input=given), Order("default", task), time.time())
    await site.port.submit(event)
    for _ in range(3):
        site.port.advance("default", task)
    row = site.port.tables_by_name["tasks"][task_key("default", task)]
    found = {"start": 4, "end": 8, "rule": "r-1", "category": "superlative", "action": "hold", "text": "best"}
    outputs = {
        "prompt": {"messages": [{"role": "user", "content": f"Write. {EVIL}"}]},
        "write": {"text": copy},
        "moderate": {"verdict": "hold", "findings": [found]},
    }
    known = opened(held_event(row)) | {"since": time.time(), "regenerate": "write"} | review
    site.port.hold("default", task, reason, outputs=outputs, input=given, text=copy, review=known)


def verdicts(site: Site) -> list[tuple[str, str, str]]:
    return [(task, str(one.verdict), one.reason) for _, task, one in site.port.verdicts]


async def as_kim(page: Page, path: str) -> None:
    """Open a page as somebody who has said who they are."""
    await page.goto("/reviews")
    await page.evaluate("localStorage.setItem('callstream-reviewer', 'kim')")
    await page.goto(path)


async def test_the_list_is_in_order_and_walked_by_keys(page: Page, site: Site) -> None:
    await hold(site, "zz-urgent", priority="high", due=time.time() - 5)
    await hold(site, "aa-high", priority="high", group="legal")
    await page.goto("/reviews")
    rows = page.locator("tbody th")

    assert (await rows.all_inner_texts())[:2] == ["zz-urgent", "aa-high"]
    await page.keyboard.press("j")
    await expect(page.get_by_role("link", name="zz-urgent")).to_be_focused()
    await page.keyboard.press("j")
    await expect(page.get_by_role("link", name="aa-high")).to_be_focused()
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    await page.keyboard.press("k")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="zz-urgent")).to_be_visible()
    await page.keyboard.press("u")
    await page.get_by_label("Group").fill("legal")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(1)
    await page.keyboard.press("Tab")


async def test_the_list_is_kept_up_to_date_and_keeps_the_place(page: Page, site: Site) -> None:
    await hold(site, "a-1", priority="high")
    await page.goto("/reviews")
    await page.keyboard.press("j")
    await hold(site, "a-0", priority="high")
    await expect(page.get_by_role("link", name="a-0", exact=True)).to_be_visible(timeout=12_000)
    await expect(page.get_by_role("link", name="a-1", exact=True)).to_be_focused()


async def test_findings_are_marked_and_what_a_reviewer_needs_is_there(page: Page, site: Site) -> None:
    attempt = {"at": time.time(), "by": "lee", "note": "shorter", "step": "write", "texts": {"text": "A long mug."}}
    await hold(site, "mug-1", attempts=[attempt], due=time.time() + 600, on_due="reject")
    await page.goto("/reviews/mug-1")

    await expect(page.locator(".judged mark")).to_have_text("best")
    assert "superlative" in (await page.locator(".judged mark").get_attribute("title") or "")
    await expect(page.get_by_text("blob:" + "a" * 64).first).to_be_visible()
    await expect(page.locator(".facts")).to_contain_text("then reject")
    await page.get_by_text("lee sent it back").click()
    await expect(page.get_by_text("A long mug.")).to_be_visible()


async def test_what_looks_like_code_or_turns_text_is_shown_as_it_is(page: Page, site: Site) -> None:
    claim = {"by": EVIL, "since": time.time(), "until": time.time() + 99}
    note = {"at": time.time(), "by": EVIL, "what": "refuse", "why": TURNED, "mark": "x"}
    await hold(site, "evil-1", f"{EVIL} {TURNED}", EVIL, claim=claim, audit=[note], told=1, priority="high")
    for path in ("/reviews", "/reviews/evil-1"):
        await page.goto(path)
        assert "<script>" in await page.locator("main").inner_text()
        assert await page.title() != "taken"
        assert await page.locator("main script, main img").count() == 0
    judged = page.locator(".judged").first
    await expect(judged.locator(".control")).to_have_text("U+202E")
    assert "right-to-left override" in (await judged.locator(".control").get_attribute("title") or "")
    assert "\u202e" not in await page.locator("main").inner_text()
    await page.keyboard.press("?")
    await expect(page.locator("dialog[open]")).to_contain_text("approve")


async def test_a_task_is_claimed_and_approved_by_keys(page: Page, site: Site) -> None:
    await hold(site, "mug-2")
    await as_kim(page, "/reviews/mug-2")
    await page.keyboard.press("c")
    await expect(page.locator("[data-lease]")).to_contain_text("kim until in 1")
    await expect(page.locator("[data-done]")).to_contain_text("It is yours until")
    await page.keyboard.press("a")
    await expect(page.get_by_role("button", name="Approve", exact=True)).to_be_focused()
    await page.keyboard.press("Escape")
    assert verdicts(site) == []
    await page.keyboard.press("a")
    await page.keyboard.press("Enter")
    await expect(page.locator(".audit tbody tr").first).to_contain_text("approve")
    await expect(page.locator(".actions")).to_have_count(0)
    assert verdicts(site) == [("mug-2", "approve", "")]


async def test_a_text_is_edited_rejected_sent_back_and_escalated_by_keys(page: Page, site: Site) -> None:
    for task in ("e-1", "r-1", "g-1", "x-1"):
        await hold(site, task, group="copy")
    await as_kim(page, "/reviews/e-1")
    await page.keyboard.press("e")
    await expect(page.get_by_label("write · text")).to_have_value(COPY)
    await page.keyboard.press("Control+a")
    await page.keyboard.type("A good mug.")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator(".audit tbody tr").first).to_contain_text("edit")
    for task, key, word in (("r-1", "r", "not true"), ("g-1", "g", "no superlatives")):
        await page.goto(f"/reviews/{task}")
        await page.keyboard.press(key)
        # without a reason nothing is sent
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("dialog[open]")).to_be_visible()
        await page.keyboard.type(word)
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".audit tbody tr").first).to_contain_text(word)
    await page.goto("/reviews/x-1")
    await page.keyboard.press("x")
    await page.keyboard.type("legal")
    await page.keyboard.press("Tab")
    await page.keyboard.type("who knows")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("[data-done]")).to_contain_text("The task still waits")
    await expect(page.locator(".facts")).to_contain_text("legal")

    assert verdicts(site) == [
        ("e-1", "edit", ""),
        ("r-1", "reject", "not true"),
        ("g-1", "regenerate", "no superlatives"),
        ("x-1", "escalate", "who knows"),
    ]
    assert site.port.verdicts[0][2].edits == {"write": {"text": "A good mug."}}


async def test_who_is_too_late_is_told_and_who_has_no_name_is_asked_for_it(chromium: Browser, site: Site) -> None:
    await hold(site, "mug-3")
    async with await chromium.new_context(base_url=site.url) as context:
        page = await context.new_page()
        await page.goto("/reviews/mug-3")
        await page.keyboard.press("c")
        await expect(page.get_by_role("alert")).to_contain_text("Say first who you are")
        await expect(page.get_by_label("Reviewer")).to_be_focused()
        await page.keyboard.type("kim")
        answer = await context.request.post("/v1/reviews/mug-3/claim", data={"reviewer": "lee"})
        assert answer.status == 200
        await page.get_by_role("button", name="Claim").click()
        await expect(page.get_by_role("alert")).to_contain_text("lee has claimed it until")
        await page.get_by_role("button", name="Approve a").click()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("lee has claimed it")
    assert verdicts(site) == []


async def test_nobody_approves_a_text_that_was_edited_after_it_was_shown(page: Page, site: Site) -> None:
    await hold(site, "mug-6", four_eyes=True)
    await as_kim(page, "/reviews/mug-6")
    body = {"verdict": "edit", "reviewer": "lee", "edits": {"write": {"text": "Quite another text."}}}
    assert (await page.request.post("/v1/reviews/mug-6", data=body)).status == 202
    await page.keyboard.press("a")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("The text was edited meanwhile")
    assert [who for _, who, _ in verdicts(site)] == ["edit"]
    await page.reload()
    await expect(page.get_by_text("Quite another text.").first).to_be_visible()
    await page.keyboard.press("a")
    await page.keyboard.press("Enter")
    await expect(page.locator(".audit tbody tr").first).to_contain_text("approve")


async def test_what_is_being_written_outlives_a_refresh(page: Page, site: Site) -> None:
    await hold(site, "mug-4")
    await as_kim(page, "/reviews/mug-4")
    await page.keyboard.press("r")
    await page.keyboard.type("because")
    site.port.tables_by_name["tasks"][task_key("default", "mug-4")]["review"]["group"] = "new-group"
    await expect(page.locator(".facts")).to_contain_text("new-group", timeout=12_000)
    await expect(page.get_by_label("Reason, which the caller is told")).to_have_value("because")


@pytest.mark.parametrize("width", [360, 1280])
async def test_pages_fit_their_window_and_name_their_parts(page: Page, site: Site, width: int) -> None:
    await hold(site, "mug-5", "word" * 200, priority="high", due=time.time() + 99)
    await page.set_viewport_size({"width": width, "height": 800})
    for path in ("/reviews", "/reviews/mug-5"):
        await page.goto(path)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        fields = page.locator("input:not([type=hidden]), textarea, select")
        assert await fields.count() == await page.locator("label :is(input, textarea, select)").count()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
