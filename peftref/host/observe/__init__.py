"""One run of a model, seen as a graph of values, events and module calls; and what small instances show beyond it."""
