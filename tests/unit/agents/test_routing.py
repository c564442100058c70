"""Tasks on the ways that routes choose for them, from settling alone."""

from typing import Any

import pytest

from callstream.agents.settle import Work, settle
from callstream.streams.chain import Chain, Chains
from callstream.streams.event import MAX_HOPS, End, Event, Failure, Hop
from callstream.streams.outcome import Bury, Finish, Forward, Hold, Outcome, Resume
from callstream.streams.routes import END, Routes, Rule
from callstream.streams.wire import decode
from callstream.tables.tasks import fold
from tests.support.events import Input, Say, an_event

STEPS = (Say("facts", "prepare"), Say("copy", "infer"), Say("cheap", "infer"), Say("check", "moderate"))


def chains_with(**routes: Routes) -> Chains:
    return Chains([Chain("shop", Input, STEPS, routes=routes)])


def rules(*given: Rule, **more: str) -> Routes:
    return Routes(given, **more)


def sent(event: Event, outcome: Outcome, chains: Chains) -> list[tuple[str, Event]]:
    step = chains.get("shop", 1).step(event.sequence)
    work = Work("any", step.name if step else "intake", 1.0, 2.0)
    found = settle(event, outcome, work, chains)
    return [(one.topic.removeprefix("callstream."), decode(one.value, one.headers)) for one in found]


def way(chains: Chains, **changes: Any) -> tuple[list[str], Event]:
    """The steps that a task takes from intake on, and the event that ends it."""
    event = an_event(sequence=0, **changes)
    steps: list[str] = []
    while event.body.end is None:
        event = sent(event, Forward({"said": len(steps)}), chains)[-1][1]
        steps.append(event.body.trail[-1].step)
    return steps, event


def test_a_rule_skips_steps_and_the_trail_says_which_it_was() -> None:
    chains = chains_with(facts=rules(Rule("tenant == 'acme'", "cheap")), copy=rules(Rule("true", "check")))
    steps, ended = way(chains)
    assert steps == ["intake", "facts", "cheap", "check"]
    assert ended.body.end is End.FINISHED
    assert ended.body.trail[1].notes == ("route: rule 1 of 'facts' (tenant == 'acme') to 'cheap'",)
    assert way(chains, tenant="other")[0] == ["intake", "facts", "copy", "check"]


def test_the_start_of_a_chain_has_routes_too() -> None:
    steps, _ = way(chains_with(intake=rules(Rule("input.title == 'mug'", "copy"))))
    assert steps == ["intake", "copy", "cheap", "check"]


def test_a_rule_with_a_topic_sends_a_copy_there_and_the_task_goes_on() -> None:
    chains = chains_with(facts=rules(Rule("tenant == 'acme'", "check", topic="audit.copy")))
    (copied, copy), (following, event) = sent(an_event(), Forward({"said": 1}), chains)
    assert (copied, following) == ("audit.copy", "moderate")
    assert copy == event
    assert event.body.trail[-1].notes[-1].endswith("to 'check', a copy to topic 'audit.copy'")
    assert sent(an_event(), Forward({"said": 1}), chains)[0] == (copied, copy)
    assert [topic for topic, _ in sent(an_event(tenant="other"), Forward(), chains)] == ["infer"]


def test_with_the_end_it_hands_the_task_over() -> None:
    chains = chains_with(facts=rules(Rule("true", END, topic="partner-orders")))
    (handed, event), (finished, ended) = sent(an_event(), Forward({"said": 1}), chains)
    assert (handed, finished) == ("partner-orders", "finished")
    assert (event.body.end, event.body.outputs, ended.body.end) == (None, {"facts": {"said": 1}}, End.FINISHED)
    assert ended.body.trail[-1].notes[-1].endswith("handed over to topic 'partner-orders'")


def test_a_sandbox_sends_nothing_outside_and_says_so() -> None:
    chains = chains_with(facts=rules(Rule("true", END, topic="partner-orders")))
    [(finished, ended)] = sent(an_event(sandbox=True), Forward(), chains)
    assert (finished, ended.body.end) == ("finished", End.FINISHED)
    assert ended.body.trail[-1].notes[-1].endswith("handed over to topic 'partner-orders' (not in a sandbox)")


def test_a_rule_may_end_the_task() -> None:
    steps, ended = way(chains_with(facts=rules(Rule("outputs.facts.said == 1", END))))
    assert (steps, ended.body.end) == (["intake", "facts"], End.FINISHED)


def test_the_weight_of_what_was_said_decides_over_usage_and_outputs_of_the_step_itself() -> None:
    chains = chains_with(facts=rules(Rule("outputs.facts.said > 5", "check")))
    [(topic, event)] = sent(an_event(), Forward({"said": 7}), chains)
    assert (topic, event.sequence) == ("moderate", 4)


def test_going_back_takes_new_numbers_so_that_no_event_is_taken_for_an_earlier_one() -> None:
    # Given a check that sends a task back to its copy until there are two of them
    again = rules(Rule("outputs.copy.said < 4", "copy"))
    chains = chains_with(check=again, copy=rules(Rule("true", "check")))
    # when a task goes round
    event, seen, row = an_event(sequence=0), [], None
    while event.body.end is None:
        [(_, event)] = sent(event, Forward({"said": len(event.body.trail)}), chains)
        seen.append(event.sequence)
        row, hops = fold(row, event, chains, 9.0)
        # then each event moves its row on, by one hop
        assert len(hops) == 1
        assert row["sequence"] == event.sequence
    assert seen == sorted(set(seen))
    assert [hop.step for hop in event.body.trail] == ["intake", "facts", "copy", "check", "copy", "check"]


def test_a_circle_ends_at_the_limit_of_hops_and_says_so() -> None:
    # Given routes that lead in a circle
    chains = chains_with(copy=rules(Rule("true", "facts")))
    # when a task goes round, then it fails where its trail is full
    steps, ended = way(chains)
    assert len(steps) == MAX_HOPS
    assert ended.body.end is End.FAILED
    assert ended.body.failure is not None
    assert ended.body.failure.kind == "hop-limit"
    assert "after 64 hops the task was still to go to" in ended.body.failure.message
    assert "circle" in ended.body.failure.message


def test_a_rule_that_would_run_long_buries_the_task_and_is_not_run() -> None:
    loops = "outputs.big.all(x, outputs.big.all(y, x == y))"
    chains = chains_with(facts=rules(Rule(loops, "copy")))
    event = an_event(outputs={"big": {f"m{number}": number for number in range(2_000)}})
    (first, letter), (second, _) = sent(event, Forward(), chains)
    assert (first, second) == ("dead", "finished")
    assert letter.body.failure is not None
    assert "too large for its loops" in letter.body.failure.message
    stands_in = chains_with(facts=rules(Rule(loops, "copy"), on_error="check"))
    [(service, _)] = sent(event, Forward(), stands_in)
    assert service == "moderate"


def test_a_rule_that_fails_buries_the_task_with_the_reason() -> None:
    chains = chains_with(facts=rules(Rule("outputs.facts.brand == 'x'", "copy")))
    (first, letter), (second, ended) = sent(an_event(), Forward({"said": 1}), chains)
    assert (first, second) == ("dead", "finished")
    assert letter.body.failure is not None
    assert (letter.body.failure.kind, letter.body.failure.step) == ("route", "facts")
    assert "no such field: brand" in letter.body.failure.message
    assert ended.body.end is End.FAILED


def test_after_a_review_the_routes_of_the_step_that_held_count() -> None:
    chains = chains_with(facts=rules(Rule("true", "check")))
    [(_, held)] = sent(an_event(), Hold("a person must look"), chains)
    before = an_event(trail=held.body.trail)
    [(topic, event)] = sent(held, Resume(before, Forward()), chains)
    assert (topic, event.sequence) == ("moderate", 4)


SHADOWED = chains_with(facts=rules(Rule("true", "copy", shadow="cheap")))


def test_a_shadow_takes_one_step_on_the_side() -> None:
    # Given a rule with a shadow
    event = an_event(trail=(Hop(step="intake", service="intake", started=0, ended=0),), priority="high")
    # when a step is done, then the task goes its way, and a copy goes another
    (topic, following), (aside, copy) = sent(event, Forward({"said": 1}), SHADOWED)
    assert (topic, following.task, following.sequence) == ("infer.high", "mug-1", 2)
    assert (aside, copy.task, copy.sequence) == ("infer.low", "mug-1~2.shadow", 3)
    assert (copy.extensions, following.extensions) == ({"shadow": "cheap", "subtaskof": "mug-1"}, {})
    assert (copy.body.outputs, copy.body.trail, copy.body.submission.callback) == ({"facts": {"said": 1}}, (), None)
    assert "a copy to 'cheap'" in following.body.trail[-1].notes[0]
    # and it ends there, whatever the step gives
    [(where, ended)] = sent(copy, Forward({"text": "aside"}), SHADOWED)
    assert (where, ended.body.end, ended.body.result) == ("finished", End.FINISHED, {"text": "aside"})
    for outcome in (Finish({"text": "aside"}), Hold("a person must look", {"text": "aside"})):
        [(where, ended)] = sent(copy, outcome, SHADOWED)
        assert (where, ended.body.result) == ("finished", {"text": "aside"})


def test_a_shadow_that_fails_is_its_own_affair() -> None:
    _, (_, copy) = sent(an_event(), Forward(), SHADOWED)
    letters = sent(copy, Bury(Failure(kind="bug", message="x")), SHADOWED)
    assert [(topic, event.task) for topic, event in letters] == [
        ("dead", "mug-1~2.shadow"),
        ("finished", "mug-1~2.shadow"),
    ]


@pytest.mark.parametrize(("length", "copies"), [(119, 1), (120, 0)])
def test_a_task_with_too_long_an_id_has_no_shadow(length: int, copies: int) -> None:
    assert len(sent(an_event(task="x" * length), Forward(), SHADOWED)) == 1 + copies


class Doing(Say):
    """A step that can be undone."""

    undoes = True


def test_what_was_skipped_is_not_undone_and_what_was_done_twice_is_undone_once() -> None:
    # Given a task that skipped one step, took another one twice, and then failed
    steps = tuple(Doing(name, f"s-{name}") for name in ("facts", "copy", "cheap", "check"))
    routes = {"facts": rules(Rule("true", "cheap")), "check": rules(Rule("outputs.check.said < 4", "cheap"))}
    chains = Chains([Chain("shop", Input, steps, routes=routes)])
    event = an_event(sequence=0)
    while len(event.body.trail) < 5:
        [(_, event)] = sent(event, Forward({"said": len(event.body.trail)}), chains)
    records = sent(event, Bury(Failure(kind="refused", message="no")), chains)
    # when it goes its way back
    passed = []
    while (event := records[-1][1]).body.end is None:
        passed.append(records[-1][0])
        records = sent(event, Forward(), chains)
    # then each step that it took is undone once, the last one first
    assert passed == ["s-check", "s-cheap", "s-facts"]
    assert event.body.end is End.FAILED
