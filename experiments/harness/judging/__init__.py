"""From measurements to verdicts, and what a record must hold to be judged again."""
