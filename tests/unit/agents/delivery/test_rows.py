import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from callstream.agents.delivery import CatalogueRow
from callstream.agents.delivery.rows import MOST_COUNTED, Write, write_of
from callstream.streams.event import Body, Event, Hop, Submission, Usage
from callstream.streams.spend import Spend, SpendKind

ROW = CatalogueRow(product="mug", text="A mug.", attributes={"colour": "blue"})


def hop(step: str, started: float, **more: Any) -> Hop:
    return Hop(step=step, service="infer", started=started, ended=started + 1, **more)


def event(**changes: Any) -> Event:
    body = Body(
        submission=Submission(chain="shop", input={}),
        digest="0" * 64,
        outputs={
            "prompt": {"template": "mug", "version": 3, "messages": [{"role": "user", "content": "Say\0 it"}]},
            "copy": {"text": "A\0 mug."},
        },
        trail=(
            hop("intake", 5.0),
            hop("copy", 6.0, usage=Usage(model="m", endpoint="e", calls=1, tokens_in=7, tokens_out=10**18)),
        ),
    ).model_copy(update=changes)
    return Event(tenant="acme", task="mug-1", chain="shop", version=2, sequence=4, body=body, time=9.0)


def written(given: Event) -> Write:
    return write_of(given, "catalogue", ROW, "prompt", (11.0, 12.0))


def test_the_catalogue_row_names_what_wrote_it_and_when_the_task_was_accepted() -> None:
    row = written(event()).catalogue
    assert (row["tenant"], row["product"], row["attributes"]) == ("acme", "mug", {"colour": "blue"})
    assert (row["task"], row["step"], row["sequence"], row["event"]) == ("mug-1", "catalogue", 4, "4:acme:mug-1/4/1")
    assert (row["accepted"], row["written"]) == (5.0, 12.0)


def test_a_task_without_a_trail_was_accepted_when_its_event_was_made() -> None:
    assert written(event(trail=())).catalogue["accepted"] == 9.0


def test_each_model_call_is_logged_with_its_prompt_and_answer_without_what_no_database_takes() -> None:
    [row] = written(event()).inference
    assert (row["position"], row["step"], row["model"], row["tokens_in"]) == (1, "copy", "m", 7)
    assert (row["template"], row["template_version"]) == ("mug", "3")
    assert row["tokens_out"] == MOST_COUNTED
    assert row["output"] == "A\ufffd mug."
    assert row["messages"] == [{"role": "user", "content": "Say\ufffd it"}]


def test_an_answer_with_a_shape_is_logged_as_json_and_what_its_step_cost_with_it() -> None:
    spends = tuple(Spend(kind=kind, cost=Decimal("0.0001")) for kind in (SpendKind.ANSWER, SpendKind.REPAIR))
    given = event(
        outputs={"copy": {"title": "Mug\0", "confidence": 0.5}},
        trail=(hop("copy", 6.0, usage=Usage(model="m", calls=2), spends=spends), hop("ask", 7.0, usage=Usage(calls=1))),
    )
    shaped, free = written(given).inference
    assert json.loads(shaped["output"]) == {"title": "Mug\0", "confidence": 0.5}
    assert (shaped["cost"], shaped["currency"]) == ("0.0002", "USD")
    assert (free["output"], free["cost"], free["currency"]) == ("", None, None)


def test_the_chain_log_has_every_hop_and_the_one_that_writes() -> None:
    rows = written(event()).chain
    assert [(row["position"], row["step"]) for row in rows] == [(0, "intake"), (1, "copy"), (2, "catalogue")]
    assert (rows[2]["started"], rows[2]["ended"], rows[2]["version"]) == (11.0, 12.0, 2)


def test_the_same_event_gives_the_same_rows() -> None:
    assert written(event()) == written(event())


@pytest.mark.parametrize(
    "given",
    [
        {"text": "x"},
        {"product": "", "text": "x"},
        {"product": "p", "text": "a\0b"},
        {"product": "p" * 201, "text": "x"},
        {"product": "p", "text": None},
        {"product": "p", "text": "x", "price": 1},
    ],
)
def test_what_is_no_catalogue_row(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CatalogueRow.model_validate(given)


def test_a_replays_log_has_the_calls_that_it_made_itself_and_not_its_parents() -> None:
    assert written(replace(event(), parent="mug-0", inherited=2)).inference == ()
    assert len(written(replace(event(), parent="mug-0", inherited=1)).inference) == 1
