"""`python -m peftref` is the command line."""

from __future__ import annotations

from peftref.cli import main

if __name__ == "__main__":
    main()
