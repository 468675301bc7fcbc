"""Expressions as a paper sets them: a tree becomes boxes, and boxes become MathML or LaTeX."""
