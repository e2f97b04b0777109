"""One script per paper, and the tasks and trained models those scripts need."""
