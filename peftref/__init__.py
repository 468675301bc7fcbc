"""peftref: a reference architecture of parameter-efficient finetuning that runs."""

__version__ = "0.1.0"
