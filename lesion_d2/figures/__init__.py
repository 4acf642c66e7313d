"""The original experiment's figures, drawn from converted data sets, runs and evaluations.

Functions named ``*_figure`` take plain data and return a matplotlib figure (shown at once as the
last line of a notebook cell); functions named ``draw_*`` read folders and write PNG files.
Nothing here imports torch or Detectron2, except to draw augmentations.
"""
