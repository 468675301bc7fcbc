"""What measures peftref or makes its tables, from a checkout: `python -m benchmarks.NAME`. Not a part of the package."""
