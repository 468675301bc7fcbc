"""The slots of a transformer, located in the graph of one run: from whatever names it to a host."""
