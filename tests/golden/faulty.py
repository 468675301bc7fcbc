"""Techniques with one fault each, by the code of the problem that names it: changes of a sound text, or whole texts."""

from __future__ import annotations

SOUND = """name: sample
title: Sample
settings: {r: 8, alpha: 16}
insert:
  - at: [attention.query, attention.value]
    leaves:
      A: {shape: [r, d_in], init: kaiming_uniform}
      B: {shape: [d_out, r], init: zeros}
    equation: h' = h + (alpha / r) * B @ A @ x
"""

CHANGED: dict[str, tuple[str, str]] = {
    "bad-name": ("name: sample", "name: My-Sample"),
    "bad-value": ("shape: [r, d_in]", "shape: {r: d_in}"),
    "equation-folded": (
        "equation: h' = h + (alpha / r) * B @ A @ x",
        "equation: >\n      z = A @ x\n      h' = h + B @ z",
    ),
    "init-axes": ("B: {shape: [d_out, r], init: zeros}", "B: {shape: [d_out], init: orthogonal}"),
    "init-scope": ("init: kaiming_uniform}", "init: {copy: W}, scope: layer}"),
    "missing-field": ("title: Sample\n", ""),
    "no-effect": ("h' = h +", "z = h +"),
    "no-gradient": ("init: kaiming_uniform", "init: zeros"),
    "not-replaceable": ("at: [attention.query, attention.value]", "at: [attention.core]"),
    "op-arguments": ("A @ x", "relu(A, x)"),
    "positions": ("B @ A @ x", "gather(B, A) @ x"),
    "prime-conflict": ("h' = h + (alpha / r) * B @ A @ x", "h' = h + alpha * B @ A @ x; W' = W"),
    "set-twice": ("h' = h + (alpha / r) * B @ A @ x", "h' = h + alpha * B @ A @ x; h' = h"),
    "setting-size": ("r: 8", "r: 0"),
    "shadowed-name": ("h' = h + (alpha / r) * B @ A @ x", "W = B @ A; h' = h + alpha * W @ x"),
    "shape": ("B @ A @ x", "A @ B @ x"),
    "syntax": ("B @ A @ x", "B @ @ x"),
    "unknown-field": ("title: Sample", "title: Sample\ntitel: Sample"),
    "unknown-init": ("init: zeros", "init: zeroes"),
    "unknown-leaf": ("B: {shape: [d_out, r], init: zeros}", "B: {shape: [d_out, r], init: {coordinates: C}}"),
    "unknown-name": ("A @ x", "A @ y"),
    "unknown-op": ("A @ x", "gelo(A @ x)"),
    "unknown-procedure": ("title: Sample", "title: Sample\nprocedures: [{name: allocate_rank}]"),
    "unknown-quantity": ("init: zeros", "init: {copy: E}"),
    "unknown-slot": ("attention.query", "attention.qurey"),
    "unused-intermediate": ("h' = h", "z = A @ x; h' = h"),
    "unused-leaf": ("B @ A @ x", "h"),
    "unused-setting": ("settings: {r: 8,", "settings: {s: 1, r: 8,"),
    "yaml-anchor": ("leaves:", "leaves: &here"),
    "yaml-character": ("title: Sample", "title: Sam\u0007ple"),
    "yaml-duplicate-key": ("title: Sample", "title: Sample\ntitle: Other"),
    "yaml-key": ("title: Sample", "title: Sample\n7: seven"),
    "yaml-syntax": ("title: Sample", "title: [Sample"),
    "yaml-tab": ("  - at:", "\t- at:"),
    "yaml-tag": ("title: Sample", "title: !!python/object:os.system Sample"),
    "yaml-documents": ("insert:", "---\ninsert:"),
    "unknown-size": ("shape: [r, d_in]", "shape: [r, d_inn]"),
}
"""What is changed in the sound text, by code."""

CARRIED = """name: beside
title: Beside
carries: {s: [4]}
insert:
  - at: ffn
    leaves:
      U: {shape: [d_model, 4], init: zeros}
    equation: h' = h + U @ s
  - at: final.norm
    leaves:
      D: {shape: [4, d_model], init: {normal: 0.02}}
    equation: s' = s + D @ h
  - at: final.norm
    leaves:
      V: {shape: [d_model, 4], init: zeros}
    equation: h' = h + V @ s
"""

WHOLE: dict[str, str] = {
    "carry-early": CARRIED,
    "carry-unread": CARRIED.replace("[d_model, 4]", "[d_model]").replace("U @ s", "U").replace("V @ s", "V"),
    "carry-unset": CARRIED.replace("s' = s + D @ h", "h' = h + D.T @ s"),
    "length-change": """name: longer
title: Longer
settings: {n: 4}
insert:
  - at: attention.core
    leaves:
      P: {shape: [n, n_kv_heads, d_head], init: {normal: 0.02}}
    equation: k' = concat(P, k)
""",
    "yaml-empty": "# nothing\n",
    "yaml-depth": "name: deep\ntitle: " + "[" * 300 + "]" * 300 + "\n",
    "yaml-nodes": "name: wide\ntitle: [" + ",".join("a" for _ in range(6_000)) + "]\n",
    "yaml-number": f"name: big\ntitle: Big\nsettings: {{r: {'9' * 6000}}}\n",
}
"""Whole texts, by code."""
