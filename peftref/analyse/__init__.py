"""Facts derived from a technique: counts, typology, merge rules, identity at init, differences, costs. No torch."""
