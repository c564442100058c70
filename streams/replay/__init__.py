"""Replay: a step's recorded input is taken from its topic again and starts a task of its own, a child of the first."""
