"""Offline presets."""


def preset_names():
    return ()


def load_preset(name):
    raise KeyError(name)


def preset_config(name):
    raise KeyError(name)
