"""Benchmarks: this project beside the usual ways to do the same, in one process run."""
