"""Models, prompts, questions and preferences, by name or by path."""
