"""Moderation at full size and without its extras, and a held text on its way past a reviewer into a database."""

import json
import subprocess
import sys
import time
from pathlib import Path

from pydantic import BaseModel, SecretStr
from sqlalchemy import select

from callstream.agents.delivery import CatalogueRow, DeliveryOptions, Sinks, WriteBack, make_engine, prepare_database
from callstream.agents.delivery.schema import catalogue
from callstream.agents.moderation import Judge, Matcher, Moderate, load_rules
from callstream.agents.review import ReviewDesk, Verdict, command_event
from callstream.agents.settle import Work, settle
from callstream.streams.chain import Chain, Chains
from callstream.streams.event import Body, Event, Json, Submission
from callstream.streams.outcome import Outcome
from callstream.streams.topics import topic_of
from callstream.streams.wire import Record, decode

COPY = "全國銷量第一的馬克杯 mug. "


class Input(BaseModel):
    title: str = ""


class RowCell:
    """A row in memory."""

    def __init__(self) -> None:
        self.value: Json | None = None

    async def save(self, value: Json) -> None:
        self.value = value


class Tools:
    """As much of the worker's tools as these steps take."""

    def __init__(self, options: DeliveryOptions) -> None:
        self.database = make_engine(options)
        self.sinks = Sinks()


def test_a_hundred_thousand_words_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    words = [f"bad{number:05d}" for number in range(50_000)]
    words += [chr(0x4E00 + number % 20_000) + chr(0x4E00 + number // 7) + "禁" for number in range(50_000)]
    path.write_text(json.dumps({"words": [{"id": "w", "category": "c", "action": "hold", "words": words}]}))
    judge = Judge(Matcher(load_rules(path), {}))
    text = "A plain text about nothing at all, bad00007 but for this. " * 300
    before = time.process_time()
    judgement = judge.judge({"": text})
    assert time.process_time() - before < 2
    assert judgement.found == 300
    assert {finding.text for finding in judgement.findings} == {"bad00007"}


def test_without_opencc_simplified_words_are_still_found() -> None:
    script = (
        "import sys; sys.modules['opencc'] = None\n"
        "from callstream.agents.moderation import Judge, Matcher, default_rules, simplified\n"
        "judge = Judge(Matcher(default_rules(), simplified())).judge\n"
        "print(judge({'': '国家级'}).decision, judge({'': '國家級'}).decision)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["reject", "pass"]


async def test_a_held_text_is_edited_by_a_reviewer_and_written(tmp_path: Path) -> None:
    options = DeliveryOptions(database_url=SecretStr(f"sqlite:///{tmp_path}/catalogue.db"))
    await prepare_database(options)
    moderate, write_back = Moderate(), WriteBack(row=_row)
    chains = Chains([Chain("shop", Input, (moderate, write_back))])
    tools, desk, row = Tools(options), ReviewDesk(), RowCell()
    await moderate.open(tools)
    await write_back.open(tools)

    def performed(event: Event, outcome: Outcome, step: str) -> tuple[Record, Event]:
        [record] = settle(event, outcome, Work(step, step, 1.0, 2.0), chains)
        return record, decode(record.value, record.headers)

    body = Body(submission=Submission(chain="shop", input={}), digest="0" * 64, outputs={"copy": {"text": COPY}})
    start = Event(tenant="acme", task="mug-1", chain="shop", version=1, sequence=1, body=body, time=1.0)
    record, held = performed(start, await moderate.act(start, RowCell()), "moderate")
    assert record.topic == topic_of("review")
    await desk.act(held, row)

    edits = {"copy": {"text": "一个好用的马克杯"}}
    verdict = Verdict.model_validate({"verdict": "edit", "reviewer": "ann", "edits": edits})
    said = command_event(held, verdict, 3.0)
    record, following = performed(said, await desk.act(said, row), "review")
    assert record.topic == topic_of("deliver")
    record, ended = performed(following, await write_back.act(following, RowCell()), "catalogue")
    assert record.topic == topic_of("finished")
    assert [hop.step for hop in ended.body.trail] == ["moderate", "review", "catalogue"]
    await write_back.close()

    async with tools.database.connect() as connection:
        assert (await connection.execute(select(catalogue.c.text))).scalars().all() == ["一个好用的马克杯"]
    await tools.database.dispose()


def _row(event: Event) -> CatalogueRow:
    return CatalogueRow(product="mug", text=event.body.outputs["copy"]["text"])
