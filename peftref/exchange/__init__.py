"""Modules exchanged with peer libraries, by what a technique's own file says of them."""
