"""Orders to stop and to go on: cancel, pause, resume. Every worker hears them and obeys."""
