"""`callstream stub`: the stub model server, the same as `python -m callstream.stub`."""

from callstream.stub.command import stub

__all__ = ["stub"]
