"""`POST /v1/moderations`: a short list of words by category. Pure."""

import re

from callstream.stub.chance import digest
from callstream.stub.errors import bad_request
from callstream.stub.work import Json, Work

WORDS = {
    "hate": ("subhuman", "inferior race", "劣等民族"),
    "harassment": ("idiot", "moron", "loser", "白痴", "蠢货"),
    "self-harm": ("suicide", "kill yourself", "自杀"),
    "sexual": ("porn", "explicit sex", "色情", "裸聊"),
    "violence": ("murder", "massacre", "bomb", "谋杀", "炸弹", "屠杀"),
    "illicit": ("counterfeit", "cocaine", "heroin", "假币", "毒品", "海洛因"),
}
MOST_INPUTS = 256
DEFAULT_MODEL = "stub-moderation"

_PATTERNS = {
    category: re.compile("|".join(rf"\b{re.escape(w)}s?\b" if w.isascii() else w for w in words), re.IGNORECASE)
    for category, words in WORDS.items()
}


def moderation_work(body: Json, seed: int) -> Work:
    """One result an input; costs no tokens. Raises ApiError 400."""
    given = body.get("input")
    items = given if isinstance(given, list) else [given]
    texts = [_text(item) for item in items]
    if not 0 < len(texts) <= MOST_INPUTS:
        raise bad_request(f"input must be a text or a list of 1 to {MOST_INPUTS} texts")
    model = body.get("model", DEFAULT_MODEL)
    if not isinstance(model, str):
        raise bad_request("model must be a text")
    identity = digest(seed, model, *texts).hex()[:24]
    return Work(
        f"moderation-{identity}", model, {"id": f"modr-{identity}", "model": model, "results": [*map(judge, texts)]}, 0
    )


def judge(text: str) -> Json:
    """The verdict on a text: flagged, categories, scores."""
    categories = {category: bool(pattern.search(text)) for category, pattern in _PATTERNS.items()}
    scores = {category: 0.98 if found else 0.01 for category, found in categories.items()}
    return {"flagged": any(categories.values()), "categories": categories, "category_scores": scores}


def _text(item: object) -> str:
    if isinstance(item, dict) and item.get("type") == "text":
        item = item.get("text")
    if not isinstance(item, str):
        raise bad_request("input must be a text, a list of texts, or a list of parts of type text")
    return item
