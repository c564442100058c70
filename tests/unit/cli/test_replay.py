"""Which tasks a replay means: what is taken, and what is refused in one line."""

import io
import math

import pytest
from rich.console import Console

from callstream.cli.errors import CliError
from callstream.cli.replay import Asked, lines, reach_json, reach_table, summary_json, wanted_of
from callstream.streams.chain import UnknownChain
from callstream.streams.replay.lineage import Manner
from callstream.streams.replay.recorded import Reach
from callstream.streams.replay.run import Summary
from callstream.streams.replay.selection import UnknownStep
from tests.support.events import CHAINS

NOW = 1_800_000_000.0
SINCE = "2027-01-01T00:00:00Z"


def asked(**options: str | None) -> Asked:
    plain: dict[str, str | None] = dict.fromkeys(("task", "chain", "tenant", "since", "until", "where"))
    return Asked(**plain | options)


def test_a_task_is_looked_for_under_its_tenant() -> None:
    wanted = wanted_of(asked(task="mug-1"), CHAINS, "copy", NOW)
    assert (wanted.task, wanted.selection.tenant, wanted.selection.step) == ("mug-1", "default", "copy")
    assert wanted_of(asked(task="mug-1", tenant="acme"), CHAINS, "copy", NOW).selection.tenant == "acme"


def test_a_chain_is_replayed_from_its_first_step_unless_another_is_named() -> None:
    wanted = wanted_of(asked(chain="shop", since="2027-01-01T01:00:00+01:00"), CHAINS, None, NOW)
    assert (wanted.selection.step, wanted.since, wanted.selection.tenant) == ("facts", 1_798_761_600.0, None)


def test_the_name_of_one_tasks_replay_does_not_hang_on_where_it_was_looked_for() -> None:
    manner = Manner("copy")
    plain = wanted_of(asked(task="mug-1"), CHAINS, "copy", NOW)
    narrowed = wanted_of(asked(task="mug-1", since=SINCE), CHAINS, "copy", NOW)
    assert plain.name(manner) == narrowed.name(manner)
    chain = wanted_of(asked(chain="shop", since=SINCE), CHAINS, "copy", NOW)
    ruled = wanted_of(asked(chain="shop", since=SINCE, where="true"), CHAINS, "copy", NOW)
    assert len({plain.name(manner), chain.name(manner), ruled.name(manner), ruled.name(Manner("facts"))}) == 4


@pytest.mark.parametrize(
    ("options", "step", "said"),
    [
        ({}, None, "name either one task with --task or all of a chain"),
        ({"task": "a", "chain": "shop"}, "copy", "name either one task with --task or all of a chain"),
        ({"task": "a"}, None, "say with --from at which step"),
        ({"task": "a", "where": "true"}, "copy", "--where chooses among the tasks of a --chain"),
        ({"chain": "shop"}, None, "--chain needs --since, from when on"),
        ({"chain": "shop", "since": "2027-01-01T00:00:00"}, None, "has no UTC offset; take RFC 3339 with an offset"),
        ({"chain": "shop", "since": "yesterday"}, None, "--since yesterday: .*; take RFC 3339"),
        ({"chain": "shop", "since": "1950-01-01T00:00:00Z"}, None, "not within the years 1970 to 9999"),
        ({"chain": "shop", "since": "2033-01-01T00:00:00Z"}, None, "lies in the future"),
        ({"task": "a", "since": "2033-01-01T00:00:00Z"}, "copy", "lies in the future"),
        ({"chain": "shop", "since": SINCE, "until": SINCE}, None, "--until .* is not after --since"),
        ({"chain": "shop", "since": SINCE, "where": "chain =="}, None, "--where: it cannot be parsed"),
        ({"chain": "shop", "since": SINCE, "where": "colour == 1"}, None, "--where: 'colour' is not known"),
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, str], step: str | None, said: str) -> None:
    with pytest.raises(CliError, match=said):
        wanted_of(asked(**options), CHAINS, step, NOW)


def test_an_unknown_step_or_chain_is_told_with_those_there_are() -> None:
    with pytest.raises(UnknownStep, match="steps: facts, copy, check"):
        wanted_of(asked(task="a"), CHAINS, "draw", NOW)
    with pytest.raises(UnknownChain, match="known: shop"):
        wanted_of(asked(chain="stop", since=SINCE), CHAINS, None, NOW)


def test_what_was_done_is_told() -> None:
    summary = Summary(found=9)
    for number in range(7):
        summary.begun(f"a~{number}", already=number > 4)
    for number in range(6):
        summary.refuse(f"b-{number}", "no such field")
    told = lines(summary, Manner("copy", True, True))
    assert told[0] == (
        "9 found, 5 started, 2 already there, 6 refused (from copy, with the answers that were paid for, in a sandbox)"
    )
    assert told[1:7] == [*(f"  a~{number}" for number in range(5)), "  and 2 more"]
    assert told[7:] == [*(f"  refused: b-{number}: no such field" for number in range(5)), "  and 1 more refused"]
    assert summary_json(summary)["tasks"] == [f"a~{number}" for number in range(5)]


def test_the_reach_is_told() -> None:
    whole = Reach("callstream.infer", 8, 10, 5.0, None, 3_600.0)
    part = Reach("callstream.infer", 8, 10, 5.0, 7.0, None)
    none = Reach("callstream.infer", 8, 0, None, math.inf, 60.0)
    table = reach_table([whole, part, none], 168)
    cells = [list(column.cells) for column in table.columns]
    assert cells[3] == ["the beginning", "1970-01-01T00:00:07.000Z", "nothing left"]
    told = io.StringIO()
    Console(width=60, file=told).print(table)
    assert "…" not in told.getvalue()
    assert cells[4] == ["1 h", "for ever", "0.0166667 h"]
    as_json = [reach_json(one) for one in (whole, part, none)]
    assert [(one["swept"], one["complete_since"]) for one in as_json] == [(False, None), (True, 7.0), (True, None)]
