import json
from pathlib import Path

import pytest

from callstream.streams.chain import Chain
from callstream.streams.event import Json
from callstream.streams.loading import load_chains

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="session")
def product_copy() -> Chain:
    return load_chains([f"{EXAMPLES}/product-copy/chain.py:chain"]).current("product-copy")


@pytest.fixture(scope="session")
def translation() -> Chain:
    return load_chains([f"{EXAMPLES}/translation/chain.py:chain"]).current("translation")


@pytest.fixture(scope="session")
def products() -> list[Json]:
    lines = (EXAMPLES / "product-copy" / "products.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]
