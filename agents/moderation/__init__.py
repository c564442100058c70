"""Moderation: sensitive words, forbidden claims and lengths over a folded view of the text."""

from callstream.agents.moderation.matcher import Decision, Finding, Judgement, Matcher
from callstream.agents.moderation.normalise import View, simplified, view
from callstream.agents.moderation.rules import (
    Action,
    BadRules,
    Claim,
    LengthRule,
    ModerationRules,
    Severity,
    WordList,
    default_rules,
    load_rules,
)
from callstream.agents.moderation.step import Moderate, copy_text

__all__ = [
    "Action",
    "BadRules",
    "Claim",
    "Decision",
    "Finding",
    "Judgement",
    "LengthRule",
    "Matcher",
    "Moderate",
    "ModerationRules",
    "Severity",
    "View",
    "WordList",
    "copy_text",
    "default_rules",
    "load_rules",
    "simplified",
    "view",
]
