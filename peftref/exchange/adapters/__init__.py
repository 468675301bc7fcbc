"""Modules exchanged with adapter-hub/adapters."""
