"""Reviews on real parts: reviewers at once, leases, edits that are judged again, rounds back, times that are over."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from callstream.streams.event import Json
from tests.support.running import LOOKED_AT, REVIEWED, Settings, System, running_system, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOAST = {"product_id": "mug", "title": "A blue mug", "description": "The world's best mug."}
LEASES: Settings = {("web", "review_lease_seconds"): 30}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Callstream with chains whose steps hold."""
    async with running_system(tmp_path_factory.mktemp("reviews"), (REVIEWED, LOOKED_AT), LEASES) as found:
        await found.start()
        yield found


async def held(system: System, chain: str = "looked-at", given: Json | None = None, **terms: Any) -> str:
    """A task that waits for a person."""
    task = str((await system.worker.submit(chain, given or {"terms": terms}))["id"])
    await system.worker.reaches(task, "held")
    return task


async def say(system: System, task: str, who: str, what: str = "", **more: Any) -> tuple[int, Json]:
    body = {"reviewer": who, **more}
    async with system.worker.http.post(f"/v1/reviews/{task}{what}", json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def review(system: System, task: str) -> Json:
    async with system.worker.http.get(f"/v1/reviews/{task}") as answer:
        assert answer.status == 200, await answer.text()
        return dict(await answer.json())


async def test_of_reviewers_at_once_one_has_it_and_the_others_are_told_who(system: System) -> None:
    task = await held(system)
    # when five claim at once
    names = [f"reviewer-{number}" for number in range(5)]
    answers = await asyncio.gather(*(say(system, task, who, "/claim") for who in names))
    # then one has it
    [winner] = [who for who, (status, _) in zip(names, answers, strict=True) if status == 200]
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409, 409]
    assert all(winner in told["detail"] for status, told in answers if status == 409)
    assert (await review(system, task))["review"]["claim"]["by"] == winner
    # and no other decides, at once or later
    loser = next(who for who in names if who != winner)
    assert (await say(system, task, loser, verdict="approve"))[0] == 409
    assert (await say(system, task, winner, verdict="approve"))[0] == 202
    row = await system.worker.reaches(task, "finished")
    assert [step["step"] for step in row["steps"]].count("review") == 1
    told = (await review(system, task))["review"]
    assert told["state"] == "decided"
    assert (told["audit"][-1]["by"], told["audit"][-1]["what"]) == (winner, "approve")


async def test_a_lease_that_is_over_is_anothers_to_take(system: System) -> None:
    task = await held(system)
    _, told = await say(system, task, "ann", "/claim")
    assert told["claim"]["until"] - told["claim"]["since"] == pytest.approx(30, abs=0.01)

    async def free() -> bool:
        return (await review(system, task))["review"]["claim"] is None

    await until(free, "the lease is over")
    assert (await say(system, task, "bob", "/claim"))[0] == 200
    assert (await say(system, task, "ann", verdict="approve"))[0] == 409
    assert (await say(system, task, "bob", "/release"))[0] == 200
    notes = [(note["by"], note["what"]) for note in (await review(system, task))["review"]["audit"]]
    assert notes[:3] == [("ann", "claim"), ("ann", "expire"), ("bob", "claim")]
    assert notes[-1] == ("bob", "release")


async def shows(system: System, path: str, word: str) -> bool:
    """Whether a page has a word; what waits is told to the pages a moment after the task's own row."""
    async with system.worker.http.get(path) as answer:
        assert answer.status == 200
        return word in await answer.text()


async def test_an_edit_is_judged_again_and_a_task_goes_back_once_with_the_note(system: System) -> None:
    task = await held(system, "reviewed", BOAST)
    shown = await review(system, task)
    assert (shown["review"]["group"], shown["review"]["regenerate"]) == ("copy", "copy")
    assert "best mug" in shown["text"]
    finding = shown["outputs"]["moderate"]["findings"][0]
    assert shown["text"][finding["start"] : finding["end"]] == finding["text"]
    for path, word in ((f"/reviews/{task}", "<mark"), ("/reviews?group=copy", task)):
        await until(partial(shows, system, path, word), f"{path} shows {word}")
    # when an edit would be rejected
    status, told = await say(system, task, "ann", verdict="edit", edits={"copy": {"text": "This mug cures cancer."}})
    assert (status, "cures cancer" in told["detail"]) == (422, True)
    # and the task is sent back
    assert (await say(system, task, "ann", verdict="regenerate", reason="no superlatives"))[0] == 202

    async def again() -> Json | None:
        row = await system.worker.row(task)
        return row if row is not None and row["state"] == "held" and len(row["steps"]) > 5 else None

    row = await until(again, "the task is held again")
    steps = ["intake", "prompt", "copy", "moderate", "review", "copy", "moderate"]
    assert [step["step"] for step in row["steps"]] == steps
    assert row["steps"][4]["notes"] == ["regenerate by ann: no superlatives"]
    shown = await review(system, task)
    [attempt] = shown["review"]["attempts"]
    assert (attempt["note"], attempt["texts"]["text"] != "") == ("no superlatives", True)
    # then not once more, and it goes on with an edit that may stand
    status, told = await say(system, task, "ann", verdict="regenerate", reason="again")
    assert (status, "sent back 1 times" in told["detail"]) == (409, True)
    assert (await say(system, task, "ann", verdict="edit", edits={"copy": {"text": "A good mug."}}))[0] == 202
    assert (await system.worker.reaches(task, "finished"))["result"] == {"copy": "A good mug."}
    notes = [note["what"] for note in (await review(system, task))["review"]["audit"]]
    assert notes == ["refuse", "regenerate", "refuse", "edit"]


@pytest.mark.parametrize(("then", "end"), [("release", "finished"), ("reject", "rejected")])
async def test_what_nobody_decides_in_time_is_decided_once_for_them(system: System, then: str, end: str) -> None:
    terms = {"due_seconds": 2, "on_due": then}
    task = str((await system.worker.submit("looked-at", {"terms": terms}))["id"])
    row = await system.worker.reaches(task, end)
    assert [step["step"] for step in row["steps"]].count("review") == 1
    notes = [(note["by"], note["what"]) for note in (await review(system, task))["review"]["audit"]]
    assert notes == [("callstream", "due")]


async def test_a_decision_in_time_makes_the_time_out_void(system: System) -> None:
    first = await held(system, due_seconds=8, on_due="reject")
    later = await held(system, due_seconds=8, on_due="escalate", priority="normal", group="copy", escalate_to="leads")
    assert (await say(system, first, "ann", verdict="approve"))[0] == 202

    async def escalated() -> bool:
        return bool((await review(system, later))["review"]["group"] == "leads")

    await until(escalated, "the other one was escalated")
    assert (await review(system, later))["review"]["priority"] == "high"
    row = await system.worker.reaches(first, "finished")
    assert row["failure"] is None


async def test_two_persons_approve_where_four_eyes_are_asked_for(system: System) -> None:
    task = await held(system, four_eyes=True)
    assert (await say(system, task, "ann", verdict="approve"))[1]["review"] == "held"
    assert (await say(system, task, "Ann", verdict="approve"))[0] == 409
    assert (await say(system, task, "bob", verdict="approve"))[1]["review"] == "decided"
    row = await system.worker.reaches(task, "finished")
    assert row["steps"][-2]["notes"] == ["approve by bob", "approved before by ann"]


async def command(system: System, *words: str) -> tuple[int, str]:
    """What `callstream review` says, and its exit code."""
    code, out, err = await system.worker.command("review", *words)
    return code, out + err


async def test_a_task_is_claimed_and_decided_from_the_command_line(system: System) -> None:
    task = await held(system, group="shell", priority="low")
    code, said = await command(system, "list", "--group", "shell", "--unclaimed")
    assert (code, task in said, "to be looked at" in said) == (0, True, True)
    assert "yours until" in (await command(system, "claim", task, "--as", "ann"))[1]
    code, said = await command(system, "decide", task, "approve", "--as", "bob")
    assert (code, "ann has claimed it" in said) == (1, True)
    assert (await command(system, "release", task, "--as", "ann"))[1] == f"{task}: released\n"
    edit = ("--edit", "look.text=A blue mug.", "--reason", "tone")
    assert (await command(system, "decide", task, "edit", "--as", "bob", *edit))[1] == f"{task}: edit\n"
    await system.worker.reaches(task, "finished")
    code, said = await command(system, "show", task)
    assert (code, said.endswith(" edit by bob: tone\n")) == (0, True)


async def test_reviews_survive_a_kill_with_their_leases_and_times(system: System) -> None:
    task = await held(system, due_seconds=45, on_due="reject", priority="high")
    assert (await say(system, task, "ann", "/claim"))[0] == 200
    killed = system.workers.pop(0)
    await killed.kill()
    await system.start(after=killed)

    async def claimed() -> bool:
        # the gateway shows a task while it is still reading what it had not written
        async with system.worker.http.get(f"/v1/reviews/{task}") as answer:
            audit = (await answer.json())["review"]["audit"] if answer.status == 200 else []
        return bool(audit) and audit[0]["by"] == "ann"

    await until(claimed, "the gateway has the claim again")

    async def listed() -> bool:
        # the list has a row once the log has it, the status a moment before
        async with system.worker.http.get("/v1/reviews") as answer:
            return task in [row["id"] for row in (await answer.json())["reviews"]]

    await until(listed, "the task is listed")
    assert (await system.worker.reaches(task, "rejected"))["failure"]["message"].startswith("rejected by callstream")
