"""The original experiment's figures, drawn from plain data; each is the same as PNG and in a page.

Functions named ``*_figure`` return a matplotlib figure, whose first line of title says what it
shows. Nothing here imports torch or Detectron2, except to draw augmentations.
"""
