"""A task as a story: all that happened is in it, in order, bounded, and masked."""

from typing import Any

import pytest

from callstream.cli.comparing import Side
from callstream.cli.story import MOST_CHARACTERS, MOST_LINES, mask_of, story
from tests.unit.cli.test_comparing import hop

MAIL = "ann@example.org"
STEPS = [
    hop("prompt", started=1.1),
    hop(
        "copy",
        started=2.0,
        model="writer",
        endpoint="near",
        calls=2,
        tokens_in=1700,
        tokens_out=30,
        attempts=2,
        cost={"USD": "0.00027"},
        notes=["attempt 1: busy: full"],
    ),
]
OUTPUTS = {
    "prompt": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"From {MAIL}"}]},
    "copy": {"text": "A mug.\nIt is blue."},
}


def side(outputs: dict[str, Any] | None = None, **row: Any) -> Side:
    told = {
        "id": "mug-1",
        "chain": "shop",
        "version": 1,
        "tenant": "acme",
        "priority": "high",
        "state": "finished",
        "created": 1.0,
        "steps": STEPS,
        "result": {"copy": "A mug."},
        **row,
    }
    return Side(told, None if outputs is None else {"title": "mug"}, outputs)


def test_all_of_a_task_is_told_in_order() -> None:
    told = story(side(OUTPUTS, callback={"url": "https://example.org/hook", "state": "delivered"}))
    assert told[0] == "mug-1  shop v1  tenant acme  high"
    at = {line: place for place, line in enumerate(told)}
    assert at["given"] < at["    title: mug"] < at["    system:"] < at["      Be brief."] < at["      It is blue."]
    assert (
        "+1.0 s  copy (infer)  took 500 ms  2 attempts  writer at near: 2 calls, 1,700 tokens in, 30 out  0.00027 USD"
        in at
    )
    assert "    note: attempt 1: busy: full" in at
    assert told[-4:] == [
        "finished after 500 ms",
        "    result",
        "      copy: A mug.",
        "    told https://example.org/hook: delivered",
    ]


def test_what_the_topics_have_no_more_is_said() -> None:
    told = story(side())
    assert "what its steps were given and made is on the topics no more" in told
    assert any(line.startswith("+1.0 s  copy") for line in told)


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"held": "superlative: best"}, "    held: superlative: best"),
        ({"failure": {"kind": "refused", "step": "copy", "message": "no"}}, "    refused in copy: no"),
        ({"next": {"step": "moderate", "service": "moderate"}}, "    waits for moderate (moderate)"),
    ],
)
def test_how_it_stands_is_told(row: dict[str, Any], line: str) -> None:
    assert line in story(side(OUTPUTS, state="other", result=None, **row))


def test_personal_data_and_keys_are_masked_and_times_are_not() -> None:
    audit = {"at": 1_760_000_000.0, "by": "ann", "what": "approve", "why": "call 13800138000"}
    outputs = {**OUTPUTS, "copy": {"text": "Bearer sk-abcdefghijklmnopqrstuvwxyz0123456789, card 4111 1111 1111 1111"}}
    clear = "\n".join(story(side(outputs, review={"audit": [audit]}, created=1_760_000_000.0)))
    masked = "\n".join(story(side(outputs, review={"audit": [audit]}, created=1_760_000_000.0), mask_of(("CN",))))
    for secret in (MAIL, "13800138000", "4111 1111 1111 1111", "sk-abcdefghijklmnopqrstuvwxyz0123456789"):
        assert secret in clear
        assert secret not in masked
    assert "[email]" in masked
    assert "[phone]" in masked
    assert "[card]" in masked
    times = [line for line in clear.splitlines() if line.startswith("accepted")]
    assert times[0] in masked
    assert f"  {times[0].removeprefix('accepted ')} approve by ann: call [phone]" in masked.splitlines()


def test_much_is_cut() -> None:
    outputs = {"copy": {"text": "x" * 10_000, "many": list(range(1000))}}
    told = story(side(outputs))
    assert max(map(len, told)) <= MOST_CHARACTERS + 4
    assert len(told) < 2 * MOST_LINES
    assert "    …" in told


def test_a_region_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no region"):
        mask_of(("XX",))
