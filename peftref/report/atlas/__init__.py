"""The atlas: a static site of the techniques, written from their designs and analyses. No torch, no network, no framework."""
