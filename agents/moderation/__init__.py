"""Moderation: sensitive words, forbidden claims and lengths over a folded view of the text."""

from callstream.agents.moderation.ask import AskModeration
from callstream.agents.moderation.judge import Judge
from callstream.agents.moderation.matcher import Finding, Judgement, Matcher, matcher_of
from callstream.agents.moderation.normalise import View, simplified, view
from callstream.agents.moderation.rules import (
    Action,
    BadRules,
    Claim,
    Decision,
    LengthRule,
    ModerationRules,
    Policy,
    Severity,
    WordList,
    default_rules,
    load_rules,
)
from callstream.agents.moderation.step import Moderate

__all__ = [
    "Action",
    "AskModeration",
    "BadRules",
    "Claim",
    "Decision",
    "Finding",
    "Judge",
    "Judgement",
    "LengthRule",
    "Matcher",
    "Moderate",
    "ModerationRules",
    "Policy",
    "Severity",
    "View",
    "WordList",
    "default_rules",
    "load_rules",
    "matcher_of",
    "simplified",
    "view",
]
