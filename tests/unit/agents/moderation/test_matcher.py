import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.moderation import Decision, Judge, Matcher, ModerationRules, default_rules, simplified
from callstream.agents.moderation.matcher import MOST_FINDINGS
from callstream.agents.moderation.rulesfile import judge_of

RULES = ModerationRules.model_validate(
    {
        "length": {"fewest_characters": 1, "most_characters": 20_000},
        "words": [
            {"id": "rude", "category": "insult", "action": "hold", "words": ["ass", "傻瓜"]},
            {"id": "law", "category": "superlative", "action": "reject", "words": ["国家级", "最佳", "第一品牌"]},
            {"id": "short", "category": "superlative", "action": "reject", "words": ["第一"]},
        ],
        "claims": [
            {"id": "cure", "category": "health", "action": "reject", "pattern": r"\bcures (?:\w+ ){0,2}cancer\b"},
        ],
        "allow": ["最佳赏味期", "class act"],
    }
)
DEFAULT = judge_of(default_rules())


@pytest.fixture(scope="module")
def matcher() -> Judge:
    return Judge(Matcher(RULES, simplified()))


@pytest.mark.parametrize(
    ("text", "decision", "found"),
    [
        ("A class glass", "pass", []),
        ("what an ASS!", "hold", [("rude", "ASS")]),
        ("你这个傻 瓜", "hold", [("rude", "傻 瓜")]),
        ("國家級品质", "reject", [("law", "國家級")]),
        ("国。家。级", "reject", [("law", "国。家。级")]),
        ("这是国家。级别不同", "pass", []),
        ("做到最，佳人", "pass", []),
        ("最.佳", "reject", [("law", "最.佳")]),
        ("最佳赏味期十二个月", "pass", []),
        ("最佳赏味期，最佳", "reject", [("law", "最佳")]),
        ("第一品牌", "reject", [("law", "第一品牌")]),
        ("It CURES all\u200b known cancer", "reject", [("cure", "CURES all\u200b known cancer")]),
        ("最佳 ass", "reject", [("law", "最佳"), ("rude", "ass")]),
    ],
)
def test_what_is_found_and_where(matcher: Judge, text: str, decision: str, found: list[tuple[str, str]]) -> None:
    judgement = matcher.judge({"": text})
    assert judgement.decision == decision
    assert [(finding.rule, finding.text) for finding in judgement.findings] == found
    assert all(text[finding.start : finding.end] == finding.text for finding in judgement.findings)


def test_findings_are_bounded_but_counted(matcher: Judge) -> None:
    judgement = matcher.judge({"": "最佳。" * 6000})
    assert judgement.decision is Decision.REJECT
    assert len(judgement.findings) == MOST_FINDINGS
    assert judgement.found == 6000
    assert len(judgement.reason) < 300


@pytest.mark.parametrize("text", ["", "  \n", "x" * 20_001])
def test_a_text_of_the_wrong_length_is_refused_unread(matcher: Judge, text: str) -> None:
    judgement = matcher.judge({"": text})
    assert judgement.decision is Decision.REJECT
    assert judgement.findings[0].rule == "length"
    assert "from 1 to 20,000" in judgement.findings[0].why


@pytest.mark.parametrize(
    "flood", ["最佳赏味期" * 4000, "\u200b" * 19_990 + "x", "ass " * 5000, "a" * 20_000, "国 " * 9999]
)
def test_floods_are_judged_in_bounded_time(matcher: Judge, flood: str) -> None:
    before = time.process_time()
    matcher.judge({"": flood})
    assert time.process_time() - before < 2


def test_rules_without_words_or_claims_pass_everything() -> None:
    assert Judge(Matcher(ModerationRules(), {})).judge({"": "最佳 ass"}).decision is Decision.PASS


@given(st.text(alphabet="最佳国家级ass 。.*\u200bx", max_size=60))
def test_a_finding_always_quotes_its_span(text: str) -> None:
    judgement = Judge(Matcher(RULES, {})).judge({"": text})
    assert all(text[finding.start : finding.end] == finding.text for finding in judgement.findings)
    assert (judgement.decision is Decision.PASS) == (not judgement.findings)


@pytest.mark.parametrize(
    "text",
    [
        "A stoneware mug with a matte glaze. Dishwasher safe, best before never.",
        "This glue cures in 24 hours and treats wood gently.",
        "First-class passengers assess the glass.",
        "这款马克杯采用高温陶瓷，容量三百五十毫升，最大容量标注于杯底。",
        "最佳赏味期为开封后第一天，国家级别的说法此处不涉及。"[:9],
        "第一次使用前请清洗。",
    ],
)
def test_the_default_rules_pass_plain_copy(text: str) -> None:
    assert DEFAULT.judge({"": text}).decision is Decision.PASS


@pytest.mark.parametrize(
    ("text", "decision", "category"),
    [
        ("This tea cures diabetes", "reject", "health-claim"),
        ("FDA-approved face cream", "reject", "endorsement"),
        ("100% guaranteed results", "hold", "promise"),
        ("The #1 brand in socks", "hold", "superlative"),
        ("Clinically proven", "hold", "endorsement"),
        ("国家级工艺", "reject", "superlative"),
        ("全國銷量第一", "hold", "superlative"),
        ("本品可治疗糖尿病", "reject", "health-claim"),
        ("100%有效", "hold", "promise"),
        ("高仿手表", "reject", "prohibited"),
    ],
)
def test_the_default_rules_stop_what_they_are_for(text: str, decision: str, category: str) -> None:
    judgement = DEFAULT.judge({"": text})
    assert judgement.decision == decision
    assert judgement.findings[0].category == category
