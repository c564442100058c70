"""Admission: whether a model call may go now, and if not, why."""
