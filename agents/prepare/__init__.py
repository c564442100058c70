"""Service `prepare`: plain text, profile, attributes from photos, prompt. Needs the extras `text` and `vision`."""

from callstream.agents.prepare.attributes import Attributes, Fact, PhotoOptions, Source
from callstream.agents.prepare.language import MissingExtra
from callstream.agents.prepare.lexicon import BadLexicon, Lexicon
from callstream.agents.prepare.normalise import Normalise
from callstream.agents.prepare.profile import Profile
from callstream.agents.prepare.prompt import ChoosePrompt, Earlier
from callstream.agents.prepare.recognise import Recognise
from callstream.agents.prepare.template import BadTemplate, Prompts

__all__ = [
    "Attributes",
    "BadLexicon",
    "BadTemplate",
    "ChoosePrompt",
    "Earlier",
    "Fact",
    "Lexicon",
    "MissingExtra",
    "Normalise",
    "PhotoOptions",
    "Profile",
    "Prompts",
    "Recognise",
    "Source",
]
