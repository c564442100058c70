"""Nearest items by meaning: texts become vectors by a model of a pool, and are compared with those of an index."""

from callstream.agents.matching.embed import Embed, embedding_chain
from callstream.agents.matching.index import BadIndex, Index, build, read, write
from callstream.agents.matching.nearest import Nearest

__all__ = ["BadIndex", "Embed", "Index", "Nearest", "build", "embedding_chain", "read", "write"]
