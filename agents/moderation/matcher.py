"""Finds what the rules forbid in one text: pure, bounded, linear in the text's length."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from ahocorasick_rs import AhoCorasick, Implementation

from callstream.agents.lookalikes import lookalikes
from callstream.agents.moderation.evasions import as_latin, undisguised
from callstream.agents.moderation.normalise import Variants, View, is_spaced, simplified, view
from callstream.agents.moderation.personal import find_personal
from callstream.agents.moderation.rules import (
    Action,
    Decision,
    ModerationRules,
    Pattern,
    Personal,
    Rule,
    Severity,
    compile_pattern,
    matches,
)
from callstream.streams.event import Json

MOST_FINDINGS = 50
MOST_QUOTED = 80
"""Characters of the matched text that a finding repeats."""
MOST_TOLD = 3

Span = tuple[int, int]
Hit = tuple[Rule, Span]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: by which rule, in which text, where (`start` to `end`, code points), and what.

    `hidden` says that `text` names what was found and does not repeat it.
    """

    rule: str
    category: str
    action: Action
    severity: Severity
    start: int
    end: int
    text: str
    why: str = ""
    part: str = ""
    hidden: bool = False

    def as_json(self) -> Json:
        """For the task's output."""
        return {
            "rule": self.rule,
            "category": self.category,
            "action": str(self.action),
            "severity": str(self.severity),
            "start": self.start,
            "end": self.end,
            "text": self.text,
            **({"part": self.part} if self.part else {}),
            **({"why": self.why} if self.why else {}),
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """The decision, the findings it rests on (the gravest first, at most 50), and how many there were.

    `policy` says which policy decided and why, `masked` are the texts to be used in the place of those judged.
    """

    decision: Decision
    findings: tuple[Finding, ...] = ()
    found: int = 0
    policy: str = ""
    masked: Mapping[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """In one line, for the caller."""
        return "; ".join(filter(None, (self.policy, self.told)))

    @property
    def told(self) -> str:
        """What was found, in one line."""
        # Of a text that a task has twice, once.
        named = dict.fromkeys(f"{finding.category}: {finding.text!r} ({finding.rule})" for finding in self.findings)
        hidden = max(0, len(named) - MOST_TOLD) + max(0, self.found - len(self.findings))
        return "; ".join(list(named)[:MOST_TOLD]) + (f" and {hidden} more" if hidden else "")

    def as_json(self, version: int) -> Json:
        """The step's output; `version` is that of the rules."""
        return {
            "verdict": str(self.decision),
            "findings": [finding.as_json() for finding in self.findings],
            "found": self.found,
            "rules": version,
            **({"policy": self.policy} if self.policy else {}),
            **({"masked": sorted(self.masked)} if self.masked else {}),
        }


class Matcher:
    """The rules made ready: one automaton for all words, one RE2 pattern for each claim."""

    def __init__(self, rules: ModerationRules, variants: Variants, alike: Variants | None = None) -> None:
        """`variants` are traditional characters to simplified ones, `alike` other scripts' letters to Latin ones."""
        self.rules = rules
        self._variants, self._alike = variants, alike or {}
        lists: dict[str, list[Rule | None]] = defaultdict(list)
        for listed in rules.words:
            for word in listed.words:
                lists[self._plain(word)].append(listed)
        for phrase in rules.allow:
            lists[self._plain(phrase)].append(None)
        lists.pop("", None)
        self._lists = tuple(map(tuple, lists.values()))
        self._words = AhoCorasick(list(lists), implementation=Implementation.ContiguousNFA)
        self._claims: list[tuple[Rule, Pattern]] = [(claim, compile_pattern(claim.pattern)) for claim in rules.claims]

    def found(self, text: str) -> list[Finding]:
        """Everything that is found in a text, of whatever length that is."""
        latin = as_latin(text, self._alike)
        seen = view(latin, self._variants)
        hits, allowed = self.word_hits(seen)
        hits.extend(self._claim_hits(seen))
        findings = [_finding(rule, seen, text, span) for rule, span in _widest(_outside(hits, allowed))]
        findings += self._disguised(seen, text, findings)
        findings += [found for rule in self.rules.personal for found in _personal(rule, text)]
        return findings

    def _disguised(self, seen: View, text: str, found: list[Finding]) -> Iterator[Finding]:
        """Words and claims that are found only as they would be read."""
        if (read := undisguised(seen)) is None:
            return
        known = {(finding.rule, finding.start, finding.end) for finding in found}
        hits, allowed = self.word_hits(read)
        hits.extend(self._claim_hits(read))
        for rule, span in _widest(_outside(hits, allowed)):
            finding = _finding(rule, read, text, span)
            if (finding.rule, finding.start, finding.end) not in known:
                yield finding

    def _plain(self, word: str) -> str:
        return view(word, self._variants).text.strip()

    def misfit(self, parts: Mapping[str, str]) -> Finding | None:
        """What is wrong with the length of some texts together, by name; None if nothing is."""
        rule, length = self.rules.length, sum(len(text.strip()) for text in parts.values())
        if rule.fewest_characters <= length <= rule.most_characters:
            return None
        why = f"{length:,} characters; from {rule.fewest_characters:,} to {rule.most_characters:,} are taken"
        name, text = max(parts.items(), key=lambda part: len(part[1]), default=("", ""))
        quoted = text[:MOST_QUOTED]
        return Finding("length", "length", rule.action, Severity.MEDIUM, 0, len(text), quoted, why, name)

    def word_hits(self, seen: View) -> tuple[list[Hit], list[Span]]:
        """The words found in a folded text, and the spans of phrases that are allowed."""
        hits: list[Hit] = []
        allowed: list[Span] = []
        for listed, first, past in self._words.find_matches_as_indexes(seen.text, overlapping=True):
            if not _whole(seen.text, first, past) or seen.crosses_sentence(first, past):
                continue
            for rule in self._lists[listed]:
                if rule is None:
                    allowed.append((first, past))
                else:
                    hits.append((rule, (first, past)))
        return hits, allowed

    def _claim_hits(self, seen: View) -> Iterator[Hit]:
        raw = seen.text.encode()
        for rule, pattern in self._claims:
            for first, past in matches(pattern, raw):
                if past > first and not seen.crosses_sentence(first, past):
                    yield rule, (first, past)


def matcher_of(rules: ModerationRules) -> Matcher:
    """The rules made ready, with what the extra `text` knows of variants and look-alikes."""
    return Matcher(rules, simplified(), lookalikes())


def gravest(findings: Iterable[Finding]) -> Decision:
    """What the gravest action of some findings leads to."""
    return max((Decision(one.action) for one in findings), key=Decision.gravity, default=Decision.PASS)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first, then as they stand in each text."""
    return sorted(findings, key=lambda one: (-Decision(one.action).gravity(), one.part, one.start, -one.end))


def _whole(text: str, first: int, past: int) -> bool:
    """Whether a word of a spaced script stands alone, so that "class" holds no "ass"."""
    if first > 0 and is_spaced(text[first]) and is_spaced(text[first - 1]):
        return False
    return not (past < len(text) and is_spaced(text[past - 1]) and is_spaced(text[past]))


def _outside(hits: Iterable[Hit], allowed: list[Span]) -> Iterator[Hit]:
    """Without those that lie within an allowed span."""
    allowed = sorted(allowed)
    starts = [first for first, _ in allowed]
    reaches = list(accumulate((past for _, past in allowed), max))
    for rule, (first, past) in hits:
        before = bisect_right(starts, first)
        if before == 0 or reaches[before - 1] < past:
            yield rule, (first, past)


def _widest(hits: Iterable[Hit]) -> list[Hit]:
    """Without those that lie within an earlier or wider finding of the same category and action."""
    kept: list[Hit] = []
    reach: dict[tuple[str, Action], int] = {}
    for rule, (first, past) in sorted(hits, key=lambda hit: (hit[1][0], -hit[1][1])):
        group = (rule.category, rule.action)
        if past > reach.get(group, -1):
            kept.append((rule, (first, past)))
            reach[group] = past
    return kept


def _personal(rule: Personal, text: str) -> Iterator[Finding]:
    for kind, start, end in find_personal(text, rule):
        # What was found goes to status, logs and reviewers: it is named there, and not repeated.
        yield Finding(
            rule.id, rule.category, rule.action, rule.severity, start, end, f"[{kind}]", rule.why, hidden=True
        )


def _finding(rule: Rule, seen: View, text: str, span: Span) -> Finding:
    start, end = seen.span(*span)
    return Finding(
        rule=rule.id,
        category=rule.category,
        action=rule.action,
        severity=rule.severity,
        start=start,
        end=end,
        text=text[start : min(end, start + MOST_QUOTED)],
        why=rule.why,
    )
