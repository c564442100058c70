"""Which template a task gets."""

from collections import Counter
from pathlib import Path

import pytest

from callstream.agents.prepare.prompts import Prompts, RuleFailed, Wanted
from callstream.agents.prepare.template import BadTemplate, parse
from callstream.streams.event import Json

SEEN: Json = {"input": {"season": "winter"}, "outputs": {}, "tenant": "acme"}


def source(*front: str) -> str:
    return "\n".join(("+++", 'version = "1"', *front, "+++", "[user]", "{{ product }}", ""))


def wanted(category: str | None = None, language: str = "de", task: str = "mug-1", **given: str) -> Wanted:
    return Wanted(category, language, {**SEEN, "input": given} if given else SEEN, f"4:acme:{task}".encode())


def folder(path: Path, rules: str = "", **templates: str) -> Prompts:
    for name, text in templates.items():
        (path / f"{name}.prompt").write_text(text, "utf-8")
    if rules:
        (path / "rules.toml").write_text(rules, "utf-8")
    return Prompts.load(path)


@pytest.mark.parametrize(
    ("category", "language", "expected"),
    [
        ("shoe", "de", "shoe-de"),
        ("shoe", "fr", "shoe"),
        ("mug", "de", "any-de"),
        ("mug", "fr", "any"),
        (None, "de", "any-de"),
    ],
)
def test_the_closest_template_is_chosen(category: str | None, language: str, expected: str) -> None:
    fronts = {
        "any": (),
        "any-de": ('languages = ["de"]',),
        "shoe": ('categories = ["shoe"]',),
        "shoe-de": ('categories = ["shoe"]', 'languages = ["de"]'),
    }
    choice = Prompts(parse(name, source(*front)) for name, front in fronts.items()).choose(wanted(category, language))
    assert choice is not None
    assert (choice.prompt.name, choice.how) == (expected, "")


def test_without_a_fitting_template_there_is_none() -> None:
    prompts = Prompts([parse("de", source('languages = ["de"]'))])
    assert prompts.choose(wanted("shoe", "en")) is None


RULES = """
[[rules]]
when = "category == 'shoe' && has(input.season) && input.season == 'winter'"
template = "winter"
[[rules]]
when = "language == 'fr' || tenant == 'other'"
template = "plain"
"""


def test_the_first_rule_that_holds_comes_before_what_fits(tmp_path: Path) -> None:
    # given a template for shoes, one that rules alone name, and one for all
    prompts = folder(
        tmp_path,
        RULES,
        shoe=source('categories = ["shoe"]'),
        winter=source("only_by_rule = true"),
        plain=source(),
    )
    # when templates are chosen
    found = [
        prompts.choose(one) for one in (wanted("shoe"), wanted("shoe", season="x"), wanted("shoe", "fr", season="x"))
    ]
    # then the first rule decides, else what a template is made for; and each rule is named
    assert [choice.prompt.name for choice in found if choice] == ["winter", "shoe", "plain"]
    assert [choice.how for choice in found if choice] == [
        f"by rule 1 ({RULES.splitlines()[2][8:-1][:80]})",
        "",
        "by rule 2 (language == 'fr' || tenant == 'other')",
    ]
    assert prompts.choose(wanted("mug", "de")).prompt.name == "plain"  # type: ignore[union-attr]


def test_a_rule_that_fails_is_named(tmp_path: Path) -> None:
    prompts = folder(tmp_path, '[[rules]]\nwhen = "input.colour == \'red\'"\ntemplate = "a"\n', a=source())
    with pytest.raises(RuleFailed, match=r"rules.toml: rule 1 \(input.colour == 'red'\): no such field: colour"):
        prompts.choose(wanted())


@pytest.mark.parametrize(
    ("rules", "wrong"),
    [
        ("rules = 1", "rules: must be a list|rules: "),
        ('[[rules]]\nwhen = "true"', "rules.0.template: Field required"),
        ('[[rules]]\nwhen = "true"\ntemplate = "b"', "rule 1: no template is called 'b'; known are: a"),
        ('[[rules]]\nwhen = "season == 1"\ntemplate = "a"', r"rule 1 \(season == 1\): 'season' is not known"),
        ('[[rules]]\nwhen = "1 ="\ntemplate = "a"', "cannot be parsed at column"),
        ('[[rules]]\nwhen = "' + "[1]" + ".map(x, [1].map(y, [1].map(z, 1)))" + '"\ntemplate = "a"', "3 loops"),
        ("x" * 300_000, "300,000 bytes; at most 262,144"),
        ('[[rules]]\nwhen = "true"\ntemplate = "a"\n' * 101, "at most 100|100 items"),
    ],
)
def test_bad_rules_are_named_with_their_place(tmp_path: Path, rules: str, wrong: str) -> None:
    with pytest.raises(BadTemplate, match=wrong) as caught:
        folder(tmp_path, rules, a=source())
    assert "rules.toml" in str(caught.value)


def test_a_share_of_the_tasks_gets_another_template_and_keeps_it() -> None:
    # given a template, and two that stand instead of it for some of its tasks
    def prompts(share: float) -> Prompts:
        fronts = {"a": (), "b": ('instead_of = "a"', f"share = {share}"), "c": ('instead_of = "a"', "share = 5.0")}
        return Prompts(parse(name, source(*front)) for name, front in fronts.items())

    def drawn(share: float) -> dict[str, str]:
        choices = {f"t-{number}": prompts_.choose(wanted(task=f"t-{number}")) for number in range(2000)}
        return {task: choice.prompt.name for task, choice in choices.items() if choice}

    # when 2,000 tasks are drawn, twice, and once more with a larger share
    prompts_ = prompts(20)
    first, again = drawn(20), drawn(20)
    prompts_ = prompts(30)
    larger = drawn(30)
    # then each gets about its share, the same each time; and whoever had the other template has it still
    counted = Counter(first.values())
    assert 320 <= counted["b"] <= 480
    assert 60 <= counted["c"] <= 140
    assert again == first
    assert all(larger[task] == "b" for task, name in first.items() if name == "b")
    told = prompts_.choose(wanted(task=next(task for task, name in first.items() if name == "b")))
    assert told is not None
    assert told.how == "with 30 % of the tasks of a"


@pytest.mark.parametrize(
    ("templates", "wrong"),
    [
        ({"b": source('instead_of = "x"', "share = 1")}, "b: instead_of 'x', which is none; known are: a, b"),
        (
            {"b": source('instead_of = "a"', "share = 1"), "c": source('instead_of = "b"', "share = 1")},
            "c: instead_of 'b', which stands instead of another itself",
        ),
        (
            {"b": source('instead_of = "a"', "share = 60"), "c": source('instead_of = "a"', "share = 50")},
            "a: those instead of it have 110 % of its tasks together",
        ),
        ({"b": source("only_by_rule = true")}, "b: only_by_rule, and no rule of rules.toml names it"),
    ],
)
def test_shares_that_cannot_be_are_refused(tmp_path: Path, templates: dict[str, str], wrong: str) -> None:
    with pytest.raises(BadTemplate, match=wrong):
        folder(tmp_path, a=source(), **templates)


def test_all_bad_files_of_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadTemplate) as caught:
        folder(tmp_path, a="hello", b=source(), c=source("version = "))
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["a", "c"]


def test_variables_that_nobody_gives_are_refused() -> None:
    prompts = Prompts([parse("a", source().replace("[user]\n", "[user]\n{{ brnad }}\n"))])
    prompts.require({"product", "brnad"})
    with pytest.raises(BadTemplate, match="a: 'brnad' is not known; known are: brand, product"):
        prompts.require({"product", "brand"})
