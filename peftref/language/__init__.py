"""The language of equations: text -> tree -> kinds, with one table of ops that every later stage reads. No torch."""
