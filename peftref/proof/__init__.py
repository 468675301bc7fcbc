"""Proof by behaviour: what is called a slot is changed on a small random instance of the host, and what follows is looked at."""
