"""Service `prepare`: plain text, profile, attributes from photos, prompt. Needs the extras `text` and `vision`."""

from callstream.agents.prepare.ask_vision import AskVision
from callstream.agents.prepare.attributes import Attributes, Fact, PhotoOptions, Source
from callstream.agents.prepare.dictionary import BadDictionary, Dictionary
from callstream.agents.prepare.language import MissingExtra
from callstream.agents.prepare.length import Limit
from callstream.agents.prepare.lexicon import BadLexicon, Lexicon
from callstream.agents.prepare.normalise import Normalise
from callstream.agents.prepare.profile import Profile
from callstream.agents.prepare.prompt import ChoosePrompt, Earlier
from callstream.agents.prepare.prompts import Prompts
from callstream.agents.prepare.recognise import Recognise
from callstream.agents.prepare.template import BadTemplate

__all__ = [
    "AskVision",
    "Attributes",
    "BadDictionary",
    "BadLexicon",
    "BadTemplate",
    "ChoosePrompt",
    "Dictionary",
    "Earlier",
    "Fact",
    "Lexicon",
    "Limit",
    "MissingExtra",
    "Normalise",
    "PhotoOptions",
    "Profile",
    "Prompts",
    "Recognise",
    "Source",
]
