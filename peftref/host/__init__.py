"""Hosts: pretrained transformers, their slots, and the sites where the slots stand."""
