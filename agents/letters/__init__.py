"""Dead letters: what people decide about them, and how a task is taken up again."""
