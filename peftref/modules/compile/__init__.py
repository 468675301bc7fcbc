"""From an expression to torch source and a torch module."""
