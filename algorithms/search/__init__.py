"""Search: beams and their kin."""
