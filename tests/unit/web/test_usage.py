"""GET /v1/usage: whose sums, of which days, told apart by what, as JSON and CSV."""

import csv
import io
import time
from decimal import Decimal

import pytest

from callstream.streams import strict_json
from callstream.streams.chain import Chains
from callstream.streams.event import Json
from callstream.streams.spend import Spend, SpendKind
from callstream.tables.fakes import MemoryRows
from callstream.tables.usage import UsageKey, added
from callstream.web import usage_rows
from callstream.web.fake import FakePort
from callstream.web.port import UsageQuery
from callstream.web.problems import Problem
from callstream.web.usage_rows import usage_of
from tests.unit.web.conftest import Client, Start

KEYS = [
    {"key": "s" * 16, "tenant": "acme", "role": "submit"},
    {"key": "o" * 16, "tenant": "acme", "role": "operate"},
]
TODAY = time.strftime("%Y-%m-%d", time.gmtime())


def row(day: str, tenant: str, cost: str, model: str = "writer", currency: str = "USD") -> tuple[UsageKey, Json]:
    spend = Spend(kind=SpendKind.ANSWER, tokens_in=10, tokens_out=2, cost=Decimal(cost), currency=currency)
    return UsageKey(day, tenant, "shop", "e", model, currency), added({}, spend)


SPENT = [
    row("2026-10-31", "acme", "9"),
    row("2026-11-01", "acme", "0.1"),
    row("2026-11-02", "acme", "0.2", model="other"),
    row("2026-11-02", "bold", "0.4"),
]
NOVEMBER = "from=2026-11-01&to=2026-11-30"


@pytest.fixture(autouse=True)
def _spent(port: FakePort) -> None:
    port.spent = list(SPENT)


async def asked(client: Client, query: str, **headers: str) -> Json:
    answer = await client.get(f"/v1/usage?{query}", headers=headers)
    assert answer.status == 200, await answer.text()
    found: Json = await answer.json()
    return found


async def test_sums_are_of_whole_days_both_ends_included(client: Client) -> None:
    told = await asked(client, "from=2026-10-31&to=2026-11-01&by=day")
    assert [(one["day"], one["cost"]) for one in told["usage"]] == [("2026-10-31", "9"), ("2026-11-01", "0.1")]
    assert (told["complete"], told["by"]) == (True, ["day"])


async def test_sums_are_told_apart_by_what_is_asked_for_and_always_by_currency(client: Client, port: FakePort) -> None:
    port.spent.append(row("2026-11-03", "acme", "1", currency="EUR"))
    told = await asked(client, f"{NOVEMBER}&by=tenant")
    assert [(one["tenant"], one["currency"], one["cost"]) for one in told["usage"]] == [
        ("acme", "EUR", "1"),
        ("acme", "USD", "0.3"),
        ("bold", "USD", "0.4"),
    ]
    whole = await asked(client, f"{NOVEMBER}&by=&tenant=acme&chain=shop")
    assert [(one["currency"], one["calls"]) for one in whole["usage"]] == [("EUR", 1), ("USD", 2)]


async def test_by_default_it_is_this_month_by_tenant_chain_and_model(client: Client, port: FakePort) -> None:
    port.spent.append(row(TODAY, "acme", "1"))
    told = await asked(client, "")
    assert (told["from"], told["to"], told["by"]) == (f"{TODAY[:8]}01", TODAY, ["tenant", "chain", "model"])


@pytest.mark.parametrize(("query", "accept"), [("&format=csv", ""), ("", "text/csv")])
async def test_csv_has_a_line_of_names_and_the_same_rows(client: Client, query: str, accept: str) -> None:
    answer = await client.get(f"/v1/usage?{NOVEMBER}&by=tenant,kind{query}", headers={"Accept": accept})
    assert (answer.status, answer.content_type) == (200, "text/csv")
    assert "usage-2026-11-01-2026-11-30.csv" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert [(one["tenant"], one["kind"], one["cost"], one["tokens_in"]) for one in rows] == [
        ("acme", "answer", "0.3", "20"),
        ("bold", "answer", "0.4", "10"),
    ]


async def test_a_key_that_submits_sees_its_own_tenant_alone(start: Start) -> None:
    client = await start(api_keys=KEYS)
    own = {"Authorization": f"Bearer {'s' * 16}"}
    told = await asked(client, f"{NOVEMBER}&by=tenant", **own)
    assert [one["tenant"] for one in told["usage"]] == ["acme"]
    assert (await client.get(f"/v1/usage?{NOVEMBER}&tenant=bold", headers=own)).status == 403
    every = await asked(client, f"{NOVEMBER}&by=tenant", Authorization=f"Bearer {'o' * 16}")
    assert [one["tenant"] for one in every["usage"]] == ["acme", "bold"]


async def test_budgets_are_told_to_those_whom_they_concern(start: Start, port: FakePort) -> None:
    port.budgets_told = [{"budget": name} for name in ("chain shop", "tenant acme", "tenant bold")]
    client = await start(api_keys=KEYS)
    own = await asked(client, NOVEMBER, Authorization=f"Bearer {'s' * 16}")
    every = await asked(client, NOVEMBER, Authorization=f"Bearer {'o' * 16}")
    assert (own["budgets"], every["budgets"]) == ([{"budget": "tenant acme"}], port.budgets_told)


async def test_all_gateways_are_summed_up_and_csv_is_whole_or_not_at_all(start: Start, chains: Chains) -> None:
    here, there = FakePort(chains, time.time), FakePort(chains, time.time)
    here.spent, there.spent = list(SPENT), list(SPENT)
    first, second = await start(here), await start(there)
    here.others = (str(second.make_url("/")),)
    there.others = (str(first.make_url("/")),)
    told = await asked(first, f"{NOVEMBER}&by=tenant")
    assert [(one["tenant"], one["cost"]) for one in told["usage"]] == [("acme", "0.6"), ("bold", "0.8")]
    answer = await first.get(f"/v1/usage?{NOVEMBER}&by=", headers={"Accept": "text/csv"})
    assert (await answer.text()).splitlines()[1].startswith("USD,6,")
    # when one of them is silent
    await second.close()
    told = await asked(first, f"{NOVEMBER}&by=tenant")
    assert (told["complete"], told["silent_gateways"]) == (False, 1)
    assert (await first.get(f"/v1/usage?{NOVEMBER}&format=csv")).status == 503


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("by=colour", "by takes some of day, tenant"),
        ("by=day,day", "twice"),
        ("by=tenant,", "by takes some of"),
        ("from=yesterday", "from takes a day such as"),
        ("to=2026-02-30", "to takes a day"),
        ("to=20261101", "to takes a day"),
        ("from=2026-W01-1", "from takes a day"),
        ("from=2026-11-02&to=2026-11-01", "is later than"),
        ("from=2020-01-01&to=2026-11-01", "at most 400"),
        ("form=csv", "'form' is not known"),
        ("format=xml", "json or csv"),
    ],
)
async def test_what_cannot_be_asked_for_says_what_can(client: Client, query: str, said: str) -> None:
    answer = await client.get(f"/v1/usage?{query}")
    problem = await answer.json()
    assert (answer.status, said in problem["detail"]) == (400, True), problem


async def test_more_rows_than_can_be_looked_at_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_rows, "ROWS_A_STEP", 2)
    rows, query = MemoryRows(partitions=2), UsageQuery("2026-11-01", "2026-11-30", ("model",))
    for number in range(5):
        key, kinds = row("2026-11-05", "acme", "0.1", model=f"m-{number % 3}")
        for partition in (0, 1):
            value = strict_json.pack({"kinds": kinds, "marks": []})
            await rows.write(rows.claim(partition), key.encode() + str(number).encode(), value)
    found = await usage_of(rows, (0, 1), query)
    assert (len(found), sum(one["calls"] for one in found)) == (5, 10)
    monkeypatch.setattr(usage_rows, "MOST_LOOKED_AT", 8)
    with pytest.raises(Problem, match="fewer days"):
        await usage_of(rows, (0, 1), query)
