import re
from pathlib import Path

import pytest

from callstream.agents.inference.failures import RETRYABLE, Kind
from callstream.streams.errorclass import FINAL, ErrorClass, class_of

ROOT = Path(__file__).parents[3]
KINDS = sorted(
    {
        kind
        for folder in ("streams", "agents", "callstream")
        for path in (ROOT / folder).rglob("*.py")
        for kind in re.findall(
            r"""(?:Failure\(kind=|_bury\(|NotTaken\(\s*|_kind(?:: \S+)? = )"([a-z-]+)\"""", path.read_text()
        )
    }
    | set(map(str, Kind))
)
OWN = ErrorClass.BUG
"""Stands for what is not mapped."""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bug"])
def test_every_kind_of_ours_has_a_class(kind: str) -> None:
    assert class_of(kind, unknown=OWN) is not OWN


def test_kinds_were_found() -> None:
    assert {"bug", "database", "sink-row", "callback-busy", "no-prompt", "unreachable"} <= set(KINDS)


@pytest.mark.parametrize("kind", Kind)
def test_a_model_call_that_may_be_sent_again_is_of_no_final_class(kind: Kind) -> None:
    assert (class_of(kind) in FINAL) == (kind not in RETRYABLE)


def test_a_class_is_a_kind_and_a_kind_of_somebodys_own_is_what_the_caller_says() -> None:
    assert [class_of(one) for one in ErrorClass] == list(ErrorClass)
    assert class_of("shelf-empty") is ErrorClass.TRANSIENT
    assert class_of("shelf-empty", ErrorClass.REFUSED) is ErrorClass.REFUSED
