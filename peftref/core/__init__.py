"""What every room uses: problems, shipped data and caches, frozen mappings. No torch."""
