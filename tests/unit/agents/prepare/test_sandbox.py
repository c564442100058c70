"""What a template can do: bounded in time, memory and reach."""

import pytest
from jinja2 import TemplateSyntaxError

from callstream.agents.prepare.sandbox import MOST_CHARACTERS, CannotRender, compiled, rendered

KNOWN = {"text": "mug", "shop": {"name": "Nord", "_secret": "x"}, "sizes": ["S", "M"]}


def render(body: str) -> str:
    return rendered(compiled(body)[0], KNOWN, "here")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{{ text | upper }}: {{ shop.name ~ '-' ~ 2 }}", "MUG: Nord-2"),
        ("{% for size in sizes %}{{ loop.index }}/{{ loop.length }} {{ size }}{{ ' ' }}{% endfor %}", "1/2 S 2/2 M"),
        ("{% for size in sizes if size == 'M' %}{{ size }}{% else %}none{% endfor %}", "M"),
        ("{% set most = 20 * 2 + 1 %}{{ most }} {{ range(3) | join(',') }} {{ 2.345 | round(1) }}", "41 0,1,2 2.3"),
        ("{{ missing | default('a thing') }}{% if missing is defined %}!{% endif %}", "a thing"),
        ("{{ text[:2] }} {{ 'big' if sizes | length > 1 else 'small' }} {{ 'S' in sizes }}", "mu big True"),
    ],
)
def test_what_prompts_need_is_there(body: str, expected: str) -> None:
    assert render(body) == expected


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "macro is not taken in a prompt"),
        ("{% for a in sizes recursive %}{{ loop(sizes) }}{% endfor %}", "recursive loop is not taken"),
        ("{% include '/etc/passwd' %}", "include is not taken"),
        ("{% import 'os' as os %}", "import is not taken"),
        ("{% extends 'a' %}", "extends is not taken"),
        ("{% set a %}x{% endset %}", "a set block is not taken"),
        ("{% filter upper %}x{% endfilter %}", "a filter block is not taken"),
        ("\n{{ text.__class__.__mro__ }}", "'__mro__' cannot be looked at|'__class__' cannot be looked at"),
        ("{{ ''.__class__.__base__.__subclasses__() }}", r"nothing but range\(…\) can be called"),
        ("{{ cycler.__init__.__globals__ }}", "cannot be looked at"),
        ("{{ text.format(1) }}", r"nothing but range\(…\) can be called; filters"),
        ("{{ lipsum(10**6) }}", r"nothing but range\(…\) can be called"),
        ("{{ 10 ** 10 ** 8 }}", r"\*\* is not taken"),
        ("{{ text | center(10000000000) }}", "No filter named 'center'"),
        ("{{ '%1000000000d' | format(1) }}", "No filter named 'format'"),
        ("{% set a = ['x'] %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}", "a list holds texts and numbers alone"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested too deep"),
        ("{% if text %}" * 3000 + "{% endif %}" * 3000, "nested too deep"),
        ("{% for a in sizes %}" * 30 + "{% endfor %}" * 30, "nested too deep"),
        ("{{ " + "9" * 6000 + " }}", "Exceeds the limit"),
    ],
)
def test_what_could_recur_or_reach_out_is_refused_when_it_is_read(body: str, wrong: str) -> None:
    with pytest.raises(TemplateSyntaxError, match=wrong):
        compiled(body)


@pytest.mark.parametrize(
    ("body", "kind", "wrong"),
    [
        ("{% for a in range(1000000000) %}x{% endfor %}", "template", "a range of more than 1,000"),
        (
            "{% for a in range(999) %}{% for b in range(999) %}{% endfor %}{% endfor %}",
            "template",
            "more than 1,000 rounds of loops",
        ),
        ("{{ 'x' * 1000000000 }}", "template", r"\* is for numbers"),
        ("{{ '%1000000000d' % 1 }}", "template", "% is for numbers"),
        ("{{ sizes + sizes }}", "template", r"\+ is for numbers"),
        (
            "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}",
            "prompt-too-long",
            "longer than 32,000",
        ),
        ("{{ range(1000) | join('" + "x" * 1000 + "') }}", "prompt-too-long", "longer than 32,000 characters"),
        ("x" * (MOST_CHARACTERS + 1), "prompt-too-long", "here: longer than 32,000 characters"),
        ("{{ 1 / 0 }}", "template", "division by zero"),
        ("{{ 99999999 * 99999999 }}", "template", "a number is larger"),
        ("{{ shop['_secret'] }}{{ text['__class__'] }}", "template", "unsafe"),
        ("{{ missing }}", "missing-variable", "here: 'missing' is undefined"),
        ("{{ 'a' ~ missing }}", "missing-variable", "'missing' is undefined"),
        ("{% for a in missing %}{% endfor %}", "missing-variable", "'missing' is undefined"),
        ("{{ missing * 3 }}", "missing-variable", "'missing' is undefined"),
        ("{% for a, b in [1] %}{% endfor %}", "template", "cannot unpack"),
        ("{% set range = text %}{{ range(3) }}", "template", "not safely callable"),
    ],
)
def test_what_grows_or_is_missing_is_told_when_it_is_rendered(body: str, kind: str, wrong: str) -> None:
    with pytest.raises(CannotRender, match=wrong) as caught:
        render(body)
    assert caught.value.kind == kind
    assert str(caught.value).startswith("here: ")


def test_the_variables_of_a_template_are_known() -> None:
    assert compiled("{{ a }}{% for b in c %}{{ b ~ d.e }}{% endfor %}{{ range(2) | list }}")[1] == {"a", "c", "d"}
