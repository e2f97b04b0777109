"""Speed: tokens a second, ways of speculating, steps of aligning."""
