"""Tasks whose answers fill a canvas: lists, puzzles, look-ups and sentences, and their batches."""
