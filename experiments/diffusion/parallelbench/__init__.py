"""ParallelBench."""
