"""Inference-time decoding and inference-aware alignment: mechanisms, no paper is named here."""
