"""The back end: from an expression to torch source, real modules, and a host that carries them."""
