"""Evaluation by per-image intersection over union."""
