"""Techniques as data: YAML read with places, frozen models, catalogs, and the schemas that editors use. No torch."""
