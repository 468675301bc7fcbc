"""Hosts as plain data: the reference architecture, sites, stacks, presets and family maps. No torch."""
