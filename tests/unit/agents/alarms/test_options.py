"""Rules: what makes no sense is refused, with what is allowed."""

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from callstream.agents.alarms.options import STANDARD_RULES, AlarmOptions, AlarmWebhook, Kind, Rule

RULE: dict[str, Any] = {"name": "mine", "kind": "dead_letters", "threshold": 1}
SECRET = "whsec_" + "bXkgdmVyeSBzZWNyZXQgc2VjcmV0IGZvciB0ZXN0cyE="


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"threshold": 0}, "greater than 0"),
        ({"threshold": -1}, "greater than 0"),
        ({"threshold": float("inf")}, "finite"),
        ({"window_seconds": 0}, "greater than or equal to 1"),
        ({"window_seconds": 7200}, "less than or equal to 3600"),
        ({"for_seconds": -1}, "greater than or equal to 0"),
        ({"kind": "noise"}, "'dead_letters', 'late', 'lag', 'breaker', 'budget' or 'spending'"),
        ({"name": "Not A Name"}, "match pattern"),
        ({"pool": "writer"}, "a rule of kind dead_letters takes no 'pool'; it takes chain, step, service, tenant"),
        ({"kind": "lag", "step": "copy"}, "a rule of kind lag takes no 'step'; it takes service"),
        ({"kind": "budget", "service": "infer", "pool": "writer"}, "name one of them"),
        ({"burst": 1}, "Extra inputs"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Rule.model_validate({**RULE, **changes})


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="two rules are called 'mine'; each has a name of its own"):
        AlarmOptions.model_validate({"rules": [RULE, {**RULE, "threshold": 2}]})


def test_a_rule_takes_the_place_of_a_standard_one_and_all_of_those_can_be_left_out() -> None:
    assert AlarmOptions().in_force == STANDARD_RULES
    assert {rule.kind for rule in STANDARD_RULES} == set(Kind)
    mine = Rule(name="lag", kind=Kind.LAG, threshold=5)
    options = AlarmOptions(rules=(mine,))
    assert [rule for rule in options.in_force if rule.name == "lag"] == [mine]
    assert len(options.in_force) == len(STANDARD_RULES)
    assert AlarmOptions(standard_rules=False, rules=(mine,)).in_force == (mine,)


@pytest.mark.parametrize("secret", ["", "secret", "whsec_!!", "whsec_c2hvcnQ="])
def test_a_secret_that_signs_nothing_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValidationError, match="base64 of 24 to 64 bytes") as caught:
        AlarmWebhook(url="https://ops.example/hook", secret=SecretStr(secret))
    assert not secret or f"'{secret}'" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://ops.example", "ops.example", "https://", "https://a b"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        AlarmWebhook(url=url, secret=SecretStr(SECRET))


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("10.0.0.1", True),
        ("127.0.0.1:80", True),
        ("[::1]", True),
        ("localhost", True),
        ("api.localhost", True),
        ("169.254.169.254", True),
        ("1.1.1.1", False),
        ("ops.example", False),
    ],
)
def test_an_address_that_is_not_public_is_told(host: str, private: bool) -> None:
    assert AlarmWebhook(url=f"http://{host}/hook", secret=SecretStr(SECRET)).private is private
