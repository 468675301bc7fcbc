"""What holds for all tests: no network is asked for anything, nothing that the user has registered is seen, and runs are the same."""

from __future__ import annotations

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("PEFTREF_CATALOG", None)
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="peftref-tests-")
os.environ["PEFTREF_CACHE"] = tempfile.mkdtemp(prefix="peftref-tests-")
