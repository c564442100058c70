from pathlib import Path
from typing import Any

import pytest

from callstream.agents.moderation import BadRules, Moderate, ModerationRules
from callstream.streams.event import Body, Event, Json, Submission
from callstream.streams.outcome import Finish, Forward, Hold
from callstream.streams.review import Terms


class NoCell:
    value: Json | None = None

    async def save(self, value: Json) -> None:
        raise AssertionError("moderation keeps nothing")


def event(copy: object, **given: object) -> Event:
    body = Body(
        submission=Submission(chain="shop", input=dict(given)), digest="0" * 64, outputs={"copy": {"text": copy}}
    )
    return Event(tenant="acme", task="mug", chain="shop", version=1, sequence=3, body=body)


def rules(action: str) -> ModerationRules:
    return ModerationRules.model_validate(
        {"words": [{"id": "w", "category": "c", "action": action, "words": ["ugly"]}]}
    )


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


async def test_parts_of_ones_own() -> None:
    step = await opened(name="check", parts=("input.body",))
    assert step.name == "check"
    assert isinstance(await step.act(event("国家级", body="Fine."), NoCell()), Forward)
    held = await step.act(event("Fine.", body="国家级"), NoCell())
    assert isinstance(held, Finish)
    assert held.output["findings"][0]["part"] == "input.body"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"parts": ("copy",)}, "'copy' is no part"),
        ({"parts": ("copy.",)}, "'copy.' is no part"),
        ({"rounds": 0}, "rounds is 0"),
        ({"rounds": 9}, "rounds is 9"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Moderate(**options)


MASKING = rules("mask")


async def test_what_is_masked_takes_the_place_of_the_text() -> None:
    outcome = await (await opened(rules=MASKING)).act(event("An ugly mug."), NoCell())
    assert isinstance(outcome, Forward)
    assert outcome.edits == {"copy": {"text": "An **** mug."}}
    assert (outcome.output["verdict"], outcome.output["masked"]) == ("mask", ["copy.text"])
    assert outcome.notes == ("masked c: 'ugly' (w)",)


async def test_what_was_handed_in_is_not_masked_but_shown_to_a_person() -> None:
    outcome = await (await opened(rules=MASKING)).act(event("Fine.", title="ugly"), NoCell())
    assert isinstance(outcome, Hold)
    assert outcome.reason.startswith("input.title would have to be masked")
    assert outcome.output["verdict"] == "hold"


async def test_a_text_is_written_anew_as_often_as_allowed_and_then_held() -> None:
    step = await opened(rules=rules("regenerate"), regenerate="copy", rounds=2)
    given = event("An ugly mug.")
    for number in (1, 2):
        outcome = await step.act(given, NoCell())
        assert isinstance(outcome, Forward)
        assert (outcome.back, outcome.output["round"], outcome.output["guides"]) == ("copy", number, "copy")
        assert "- 'ugly': c\n" in outcome.output["guidance"]
        given = given.with_body(outputs={**given.body.outputs, "moderate": outcome.output})
    held = await step.act(given, NoCell())
    assert isinstance(held, Hold)
    assert held.reason == "after 2 rounds: c: 'ugly' (w)"
    assert "guidance" not in held.output
    passed = await step.act(given.with_body(outputs={**given.body.outputs, "copy": {"text": "Fine."}}), NoCell())
    assert isinstance(passed, Forward)
    assert (passed.back, passed.output) == (
        None,
        {"verdict": "pass", "findings": [], "found": 0, "rules": 1, "round": 2},
    )


async def test_without_a_writer_a_person_decides() -> None:
    outcome = await (await opened(rules=rules("regenerate"))).act(event("An ugly mug."), NoCell())
    assert isinstance(outcome, Hold)
    assert outcome.reason == "c: 'ugly' (w)"


async def test_a_policy_sees_the_task() -> None:
    lenient = ModerationRules.model_validate(
        {
            "words": [{"id": "w", "category": "c", "action": "reject", "words": ["ugly"]}],
            "policies": [{"id": "p", "when": "tenant == 'acme' && input.kind == 'joke'", "verdict": "pass"}],
        }
    )
    step = await opened(rules=lenient)
    assert isinstance(await step.act(event("An ugly mug.", kind="joke"), NoCell()), Forward)
    assert isinstance(await step.act(event("An ugly mug.", kind="mug"), NoCell()), Finish)


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


async def test_an_edited_text_is_judged_again_and_refused_only_where_it_would_be_rejected() -> None:
    step = await opened()
    assert "cures cancer" in (await step.recheck(event("This tea cures cancer.")) or "")
    assert await step.recheck(event("Clinically proven comfort.")) is None
    assert await step.recheck(event("A sturdy mug.")) is None


async def test_a_hold_has_the_terms_of_the_step_and_the_text_that_was_judged() -> None:
    terms = Terms(group="legal", due_seconds=60)
    outcome = await (await opened(review=terms, regenerate="copy")).act(event("Clinically proven."), NoCell())
    assert isinstance(outcome, Hold)
    assert (outcome.terms, outcome.text) == (terms, "Clinically proven.")
