"""What holds for all tests: no network is asked for anything, and runs are short and the same every time."""

from __future__ import annotations

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["PEFTREF_CACHE"] = tempfile.mkdtemp(prefix="peftref-tests-")
