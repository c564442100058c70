"""Words that are disguised: which are read, and what is left as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.lookalikes import lookalikes
from callstream.agents.moderation import Decision, default_rules, view
from callstream.agents.moderation.evasions import as_latin, undisguised
from callstream.agents.moderation.rulesfile import judge_of

JUDGE = judge_of(default_rules())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("an i d i o t, really", "i d i o t"),
        ("c0unterfeit bags", "c0unterfeit"),
        ("what a $h1t", "$h1t"),
        ("sh.it happens", "sh.it"),
        ("sh|it", "sh|it"),
        ("coun.ter.feit watch", "coun.ter.feit"),
        ("\u0441\u043eunterfeit", "\u0441\u043eunterfeit"),
        ("FDA \u0430pproved", "FDA \u0430pproved"),
        ("a \u0456diot", "\u0456diot"),
        ("i.d.i.o.t", "i.d.i.o.t"),
        ("\u0455h1t", "\u0455h1t"),
    ],
)
def test_a_disguised_word_is_found_where_it_stands(text: str, found: str) -> None:
    judgement = JUDGE.judge({"": text})
    assert [text[one.start : one.end] for one in judgement.findings] == [one.text for one in judgement.findings]
    assert [one.text for one in judgement.findings] == [found]


@pytest.mark.parametrize(
    "text",
    [
        "A55 phone with 5G",
        "vitamins a b c d e",
        "size 4 a pair",
        "e.g. this one, i.e. that",
        "great c l a s s",
        "www.classic.example",
        "\u042d\u0442\u043e \u043a\u043b\u0430\u0441\u0441",
        "\u03ba\u03b1\u03bb\u03bf\u03c2",
        "M4A1S5 adapter, 3x5 cm, 50% off!!!",
        "caf\u00e9 na\u00efve",
    ],
)
def test_what_is_no_disguise_passes(text: str) -> None:
    assert JUDGE.judge({"": text}).decision is Decision.PASS


def test_a_word_is_found_once_however_it_is_written() -> None:
    judgement = JUDGE.judge({"": "idiot, idi0t"})
    assert [one.text for one in judgement.findings] == ["idiot", "idi0t"]


def test_a_text_of_another_script_keeps_its_letters() -> None:
    alike = lookalikes()
    russian = "\u0440\u043e\u0441\u0430 \u0438 \u0440\u043e\u0441\u0430"
    assert as_latin(f"dew: {russian}", alike) == f"dew: {russian}"
    assert as_latin("\u0440\u043e\u0441\u0430", alike) == "\u0440\u043e\u0441\u0430"
    assert as_latin("a nice \u0440\u043e\u0440", alike) == "a nice pop"


def test_without_the_extra_nothing_looks_alike() -> None:
    assert as_latin("\u0441\u043eunterfeit", {}) == "\u0441\u043eunterfeit"


@given(st.text(alphabet="aist0$1.* -\u0430\u0441国家。x", max_size=60))
def test_whatever_is_read_stands_for_a_piece_of_the_original(text: str) -> None:
    assert len(as_latin(text, lookalikes())) == len(text)
    read = undisguised(view(text))
    if read is not None:
        assert len(read.text) == len(read.starts) == len(read.ends)
        for at in range(len(read.text)):
            start, end = read.span(at, at + 1)
            assert 0 <= start < end <= len(text)
