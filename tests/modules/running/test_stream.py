"""What a sublayer's output is added to, and what the host makes of the sum, as equations read them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from peftref.core.problem import PeftrefError
from peftref.design.technique import Technique
from peftref.modules.attach import attach
from tests.hosts.families import build, inputs

AFTER = {
    "bert": "encoder.layer.1.output.LayerNorm",
    "bart": "encoder.layers.1.final_layer_norm",
    "llama": "layers.1",
    "gpt2": "h.1",
    "t5": "encoder.block.1",
    "vit": "layers.1",
}
"""The module whose output is what becomes of the sum of the second layer's feed-forward and the stream."""


def reading(equation: str, at: str = "ffn", **settings: Any) -> Technique:
    return Technique.model_validate(
        {
            "name": "reading",
            "title": "Reading",
            "settings": settings,
            "insert": [
                {
                    "at": [at],
                    "layers": [1],
                    "leaves": {"l": {"shape": ["d_model"], "init": "zeros"}},
                    "equation": equation,
                }
            ],
        }
    )


def given(model: Any, path: str) -> torch.Tensor:
    """What a module gives in one forward of the host."""
    seen: list[torch.Tensor] = []
    hook = model.get_submodule(path).register_forward_hook(
        lambda module, args, out: seen.append(out if isinstance(out, torch.Tensor) else out[0])
    )
    with torch.no_grad():
        model(**inputs(model))
    hook.remove()
    return seen[-1]


@pytest.mark.parametrize("family", AFTER)
def test_what_the_host_makes_of_the_sum(family: str) -> None:
    """With h' = out - res, the sum after the sublayer is what its norm would have given."""
    model = build(family).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    plain = given(model, AFTER[family])
    attach(model, reading("h' = out - res + l * h", "encoder.ffn" if family in ("bart", "t5") else "ffn"))
    after = model.get_submodule(AFTER[family])
    expected = after(plain).detach() if isinstance(after, torch.nn.LayerNorm) else plain
    torch.testing.assert_close(given(model, AFTER[family]), expected, rtol=1e-9, atol=1e-9)


def test_a_setting_names_what_is_read_and_what_is_called() -> None:
    found = []
    for settings in ({"f": "relu", "kept": "h"}, {"f": "tanh", "kept": "h"}, {"f": "tanh", "kept": "res"}):
        model = build("bert").double()
        plain = given(model, "encoder.layer.1.output.dropout")
        attach(model, reading("h' = kept + f(h) + l * h", **settings))
        now = given(model, "encoder.layer.1.output.dropout")
        if settings["kept"] == "h":
            torch.testing.assert_close(now, plain + getattr(torch, settings["f"])(plain), rtol=1e-9, atol=1e-9)
        found.append(now)
    assert not torch.equal(found[1], found[2])


def test_where_sublayers_stand_side_by_side_it_is_the_stream_of_both() -> None:
    model = build("gpt_neox").double()
    entering, given_by = given(model, "layers.0"), given(model, "layers.1.post_mlp_dropout")
    before = given(model, "layers.1")
    attach(model, reading("h' = h + out + l * h"))
    torch.testing.assert_close(given(model, "layers.1"), before + entering + given_by, rtol=1e-9, atol=1e-9)


def test_a_stream_that_is_not_there_is_told() -> None:
    model = build("bert")
    with pytest.raises(PeftrefError, match="has no res"):
        attach(model, reading("h' = h + l * res", "layer"))
    assert "peftref" not in model._modules
