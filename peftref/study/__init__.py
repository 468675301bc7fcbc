"""Studies: a plan of runs, a store of their records, what is measured, and the comparison that ties them together."""
