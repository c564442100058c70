"""Moderation at work: texts written anew, masked, held at last, and what other rules would have said of them."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from callstream.settings.gather import PREFIX
from tests.support.chains import moderated
from tests.support.running import CHAINS, TENANT, System, running_system

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW = 'version = 4\n[[words]]\nid = "veil"\ncategory = "brand"\naction = "hold"\nwords = ["Kilnrow"]\n'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with running_system(tmp_path_factory.mktemp("policies"), (f"{CHAINS}:{moderated.name}",)) as running:
        await running.start()
        yield running


async def test_a_text_is_written_anew_twice_and_then_a_person_decides(system: System) -> None:
    given = {"product_id": "loud", "title": "A mug", "description": "shout it out"}
    await system.worker.submit("moderated", given, id="loud")
    held = await system.worker.reaches("loud", "held")
    # Each time is a call of its own, and all are told.
    assert [step["step"] for step in held["steps"]] == ["intake", "prompt", *(["copy", "moderate"] * 3)]
    notes = [note for step in held["steps"] if step["step"] == "moderate" for note in step.get("notes", ())]
    assert [note.partition(":")[0] for note in notes] == ["back to copy, round 1 of 2", "back to copy, round 2 of 2"]
    assert "after 2 rounds" in held["held"]
    counts = await system.stub.task(TENANT, "loud")
    assert (counts["calls"], counts["paid"]) == (3, 3)


async def test_what_is_masked_is_masked_for_all_that_follow(system: System) -> None:
    given = {"product_id": "veiled", "title": "Kilnrow mug"}
    await system.worker.submit("moderated", given, id="veiled")
    row = await system.worker.reaches("veiled", "finished")
    assert "*******" in row["result"]["copy"]
    assert "Kilnrow" not in row["result"]["copy"]
    (note,) = (note for step in row["steps"] if step["step"] == "moderate" for note in step["notes"])
    assert note.startswith("masked brand: 'Kilnrow' (veil)")


async def test_new_rules_are_tried_on_the_latest_tasks(system: System, tmp_path: Path) -> None:
    rules = tmp_path / "new.toml"
    rules.write_text(NEW)
    told = command(system, "policy", "compare", str(rules), "--chain", "moderated")
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert lines[0] == "4 judged, 4 would come out otherwise"
    assert lines[1:3] == ["mask -> hold 1", "regenerate -> pass 3"]
    assert "veiled: mask -> hold" in lines
    assert "now: brand: 'Kilnrow' (veil)" in lines
    newest = command(system, "policy", "compare", str(rules), "--chain", "moderated", "--last", "1")
    assert newest.startswith("1 judged, 1 would come out otherwise")
    assert "is none of its moderation steps" in command(
        system, "policy", "compare", str(rules), "--chain", "moderated", "--step", "x", code=1
    )
    assert "no chain" in command(system, "policy", "compare", str(rules), "--chain", "nowhere", code=1)


def command(system: System, *words: str, code: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {"CALLSTREAM_BROKER": system.bootstrap, "CALLSTREAM_CHAINS": f'["{CHAINS}:moderated"]'}
    environment |= {"CALLSTREAM_BLOBS__URL": f"file://{system.folder}/blobs", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "callstream", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=system.folder,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr
