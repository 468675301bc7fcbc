"""Saved modules: what stands in their folder, how it is written, and how it is read and checked."""
