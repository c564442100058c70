import pytest

from callstream.streams.chain import Chain, Chains, UnknownChain
from callstream.streams.event import TASK_HELD, End
from callstream.streams.replay.selection import Selection, UnknownStep, never_reached
from callstream.streams.wire import encode
from tests.support.events import CHAINS, SHOP, Input, Say, an_event

COPY = Selection(CHAINS, "copy", "shop", "acme")


def test_a_steps_inputs_are_on_its_services_topics_and_all_their_lanes() -> None:
    assert COPY.topics() == ("callstream.infer", "callstream.infer.high", "callstream.infer.low")
    moved = Chain("shop", Input, (Say("copy", "prepare"),), version=2)
    both = Selection(Chains([SHOP, moved]), "copy")
    assert both.topics() == (*COPY.topics(), "callstream.prepare")


def test_an_unknown_step_or_chain_is_told_with_those_there_are() -> None:
    with pytest.raises(UnknownStep, match="chain 'shop' has no step 'draw'; steps: facts, copy, check"):
        Selection(CHAINS, "draw", "shop").topics()
    with pytest.raises(UnknownStep, match="no chain here has a step 'draw'; steps: facts, copy, check"):
        Selection(CHAINS, "draw").topics()
    with pytest.raises(UnknownChain, match="known: shop"):
        Selection(CHAINS, "copy", "stop").topics()


def test_only_the_input_of_that_step_is_one() -> None:
    assert COPY.is_input(an_event(sequence=2))
    assert not COPY.is_input(an_event(sequence=1))
    assert not COPY.is_input(an_event(sequence=9))
    assert not COPY.is_input(an_event(sequence=2, end=End.FAILED))
    with pytest.raises(UnknownChain, match="version 7"):
        COPY.is_input(an_event(sequence=2, version=7))


def test_attributes_alone_tell_most_records_apart() -> None:
    def may_be(**changes: object) -> bool:
        return COPY.may_be(list(encode(an_event(**changes), "t").headers))

    assert may_be()
    assert not may_be(tenant="other")
    assert not may_be(chain="other")
    assert not may_be(type=TASK_HELD)
    assert Selection(CHAINS, "copy").may_be(list(encode(an_event(tenant="other", chain="other"), "t").headers))


def test_how_far_a_task_came_is_said() -> None:
    assert never_reached("a", "copy", ["facts"], "failed").startswith(
        "task 'a' never reached step 'copy': it took facts, and it ended failed"
    )
    assert "it took none, and it has not ended" in never_reached("a", "copy", [], None)
    assert "'copy': it has not ended" in never_reached("a", "copy", None, None)
