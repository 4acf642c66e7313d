"""The page that ``tools/serve.py`` opens: outlines of dropped photographs, and their review."""
