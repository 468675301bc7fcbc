"""What acts inside a running host: taps at its slots, and what they must know of the running call."""
