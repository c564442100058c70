"""`callstream prompts`: what a user sees of templates that are checked and tried."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from callstream.agents.prepare import BadTemplate
from callstream.cli.errors import CliError
from callstream.cli.prompts import app

EXAMPLE = Path(__file__).parents[3] / "examples" / "product-copy" / "prompts"
WINTER = '[[rules]]\nwhen = "has(input.season)"\ntemplate = "winter"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fronts = {
        "any": "parameters = { temperature = 0.5 }",
        "winter": "only_by_rule = true\nanswer = { type = 'object' }",
    }
    fronts["other"] = 'instead_of = "any"\nshare = 100.0'
    for name, front in fronts.items():
        body = "[system]\nIn {{ language }}.\n[user]\nWrite {{ most_words }} words.\n{{ product }}\n"
        (tmp_path / f"{name}.prompt").write_text(f'+++\nversion = "2"\n{front}\n+++\n{body}')
    (tmp_path / "rules.toml").write_text(WINTER)
    return tmp_path


def run(*arguments: object, given: str | None = None) -> str:
    told = CliRunner().invoke(app, [str(one) for one in arguments], input=given)
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    assert told.exit_code == 0, told.output
    return told.output


def test_a_folder_is_checked_and_listed(folder: Path) -> None:
    assert run("check", folder, "--set", "most_words=30").splitlines() == [
        "any version 2: any category; any language; system, user",
        "other version 2: 100 % of the tasks of any; system, user",
        "winter version 2: by rule only; system, user; answers of a shape",
        "rule 1: winter when has(input.season)",
    ]


def test_the_example_has_templates_that_can_be_used() -> None:
    told = run("check", EXAMPLE).splitlines()
    assert "wear-zh version 2: shoe, jacket, backpack, umbrella; zh; system, user" in told


def test_a_product_is_tried(folder: Path) -> None:
    product = folder / "mug.json"
    product.write_text('{"title": "A <mug>", "language": "de"}')
    assert run("try", folder, product, "--set", "most_words=30") == (
        "template other version 2, with 100 % of the tasks of any\n"
        "--- system\nIn German.\n"
        '--- user\nWrite 30 words.\n```json\n{\n  "title": "A \\u003cmug\\u003e",\n  "language": "de"\n}\n```\n'
    )
    told = run("try", folder, "-", "--set", "most_words=30", given='{"title": "A mug", "season": "winter"}')
    assert told.startswith("template winter version 2, by rule 1 (has(input.season))\nanswer: {")
    output = json.loads(run("try", folder, "-", "--set", "most_words=1", "--json", given="{}"))
    assert (output["template"], [message["role"] for message in output["messages"]]) == ("other", ["system", "user"])


def test_what_is_wrong_is_told(folder: Path) -> None:
    with pytest.raises(BadTemplate, match="any: 'most_words' is not known"):
        run("check", folder)
    with pytest.raises(CliError, match="write name=value"):
        run("check", folder, "--set", "most words")
    with pytest.raises(CliError, match=r"nothing\.json: .*No such file"):
        run("try", folder, folder / "nothing.json", "--set", "most_words=1")
    for given, wrong in (("[]", "an object is wanted"), ("{", "not JSON"), ('{"language": "German"}', "a code of two")):
        with pytest.raises(CliError, match=wrong):
            run("try", folder, "-", "--set", "most_words=1", given=given)
    (folder / "any.prompt").write_text('+++\nversion = "1"\n+++\n[user]\n{{ brand }}\n{{ product }}\n')
    (folder / "other.prompt").unlink()
    with pytest.raises(CliError, match="template any, user message: 'brand' is undefined"):
        run("try", folder, "-", "--set", "most_words=1", given="{}")
