"""Methods that search: beams and their kin."""
