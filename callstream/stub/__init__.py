"""A stand-in for a model server: OpenAI-compatible, seeded, with limits and faults, and a witness of every call.

It runs as a process of its own and shares no code with the part of callstream that calls models, so that it can be
their judge.
"""

from callstream.stub.process import RunningStub, StubFailedError, running_stub

__all__ = ["RunningStub", "StubFailedError", "running_stub"]
