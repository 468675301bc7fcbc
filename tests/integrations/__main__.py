"""`python -m tests.integrations` writes `docs/training.md`."""

from __future__ import annotations

from tests.integrations.table import main

if __name__ == "__main__":
    main()
