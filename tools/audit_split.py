#!/usr/bin/env python
"""The old name of tools/find_leaks.py."""

if __name__ == "__main__":
    raise SystemExit("error: tools/audit_split.py is called tools/find_leaks.py now")
