"""Fill a canvas of masks: which places are decided in which pass."""
