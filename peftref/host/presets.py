"""Offline presets."""


def preset_names() -> tuple[str, ...]:
    return ()


def load_preset(name: str):
    raise KeyError(name)


def preset_config(name: str):
    raise KeyError(name)
