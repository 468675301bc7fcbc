"""Rewrites: pure passes from an expression to a cheaper one that means the same. No torch."""
