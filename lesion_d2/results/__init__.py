"""Readers of what trainings and evaluations leave on disk."""
