from pathlib import Path

import pytest

from callstream.agents.moderation import BadRules, Moderate
from callstream.streams.event import Body, Event, Json, Submission
from callstream.streams.outcome import Bury, Finish, Forward, Hold


class NoCell:
    value: Json | None = None

    async def save(self, value: Json) -> None:
        raise AssertionError("moderation keeps nothing")


def event(copy: object, **given: object) -> Event:
    body = Body(
        submission=Submission(chain="shop", input=dict(given)), digest="0" * 64, outputs={"copy": {"text": copy}}
    )
    return Event(tenant="acme", task="mug", chain="shop", version=1, sequence=3, body=body)


async def opened(**options: object) -> Moderate:
    step = Moderate(**options)  # type: ignore[arg-type]
    await step.open(None)
    return step


async def test_good_copy_goes_on_with_its_verdict() -> None:
    outcome = await (await opened()).act(event("A sturdy mug."), NoCell())
    assert isinstance(outcome, Forward)
    assert outcome.output == {"verdict": "pass", "findings": [], "found": 0, "rules": 1}


async def test_a_forbidden_claim_ends_the_task_with_its_reason() -> None:
    outcome = await (await opened()).act(event("This tea cures cancer."), NoCell())
    assert isinstance(outcome, Finish)
    assert outcome.rejected
    assert "cures cancer" in outcome.reason
    assert outcome.output["findings"][0]["start"] == 9


async def test_a_doubtful_claim_waits_for_a_person() -> None:
    outcome = await (await opened()).act(event("Clinically proven comfort."), NoCell())
    assert isinstance(outcome, Hold)
    assert outcome.output["verdict"] == "hold"


async def test_title_and_description_are_judged_too_and_odd_types_are_not() -> None:
    step = await opened()
    assert isinstance(await step.act(event("Fine.", title="国家级"), NoCell()), Finish)
    assert isinstance(await step.act(event(["Fine."], title=7, description="Fine."), NoCell()), Forward)
    assert isinstance(await step.act(event(None), NoCell()), Finish)


async def test_a_text_function_of_ones_own() -> None:
    step = await opened(name="check", text=lambda given: given.input["body"])
    assert step.name == "check"
    assert isinstance(await step.act(event("国家级", body="Fine."), NoCell()), Forward)
    assert isinstance(await step.act(event("Fine.", body=7), NoCell()), Bury)


async def test_rules_of_ones_own_are_read_when_the_worker_starts(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    step = Moderate(rules=str(path))
    with pytest.raises(BadRules, match="No such file"):
        await step.open(None)
    path.write_text('version = 7\n[[words]]\nid = "w"\ncategory = "c"\naction = "hold"\nwords = ["mug"]\n')
    await step.open(None)
    outcome = await step.act(event("A mug."), NoCell())
    assert isinstance(outcome, Hold)
    assert outcome.output["rules"] == 7
