"""Synthetic dermoscopy: drawn pictures with exact masks, for tests, benchmarks and the demo."""

from lesion_d2.synthetic.archive import DEFAULT_SIZES, write_archive
from lesion_d2.synthetic.picture import MIN_SIDE, render

__all__ = ["DEFAULT_SIZES", "MIN_SIDE", "render", "write_archive"]
