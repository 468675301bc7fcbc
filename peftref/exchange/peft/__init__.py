"""Modules exchanged with huggingface/peft."""
