"""Models whose code asks tensors for numbers that hang on their parameters are resolved as they are, with a witness's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor
from transformers.models.bert.modeling_bert import BertLayer

from peftref.core.problem import PeftrefError
from peftref.host.locate.assemble import read_graph
from peftref.host.locate.flow import Flow
from peftref.host.locate.resolve import resolve
from peftref.host.observe.build import build, class_of, shake
from peftref.host.observe.inputs import inputs_of
from peftref.host.observe.observe import observe
from peftref.host.observe.shrink import Scale, shrunken
from peftref.host.observe.trace import record
from peftref.host.site import Site
from tests.hosts.configs import FAMILIES


class SplittingConfig(tf.BertConfig):
    """A config of its own, so that no Auto class knows it."""

    model_type = "splitting"


class Splitting(tf.PreTrainedModel):
    """Its tokens go through attention in two parts, and how long the first is hangs on a parameter."""

    config_class = SplittingConfig
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: SplittingConfig) -> None:
        super().__init__(config)
        self.tokens = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.length = torch.nn.Linear(config.hidden_size, 1)
        self.layers = torch.nn.ModuleList(BertLayer(config, layer_idx=at) for at in range(config.num_hidden_layers))
        self.post_init()

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden: Tensor = self.tokens(input_ids)
        for layer in self.layers:
            hidden = torch.cat([layer(part) for part in self.parts(hidden)], dim=1)
        return hidden

    def parts(self, hidden: Tensor) -> Any:
        first = 1 + (self.length(hidden).sum() > 0).long()
        return hidden.split(torch.stack([first, hidden.shape[1] - first]).tolist(), dim=1)


class Counting(Splitting):
    """It asks for as many numbers as it has columns, so that none that is narrower asks what it asks."""

    def parts(self, hidden: Tensor) -> Any:
        for at in range(hidden.shape[-1] // 8):
            float(self.length.weight[0, at])
        return super().parts(hidden)


class Masking(Splitting):
    """Which of its tokens go on hangs on a parameter: chosen by a mask, and written back by it."""

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden: Tensor = self.tokens(input_ids)
        mask = self.length(hidden).squeeze(-1) > self.length(hidden).mean()
        chosen = hidden[mask]
        assert chosen.shape[0] < mask.numel()
        assert chosen.shape[0] == mask.nonzero().shape[0] == int(mask.sum())
        hidden = hidden.masked_fill(mask[..., None], 0).index_put([mask], chosen)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class Unanswering(Splitting):
    """It cannot be run where there are numbers."""

    def parts(self, hidden: Tensor) -> Any:
        if not hidden.is_meta:
            raise RuntimeError("not here")
        return super().parts(hidden)


def config(**fields: Any) -> SplittingConfig:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    return SplittingConfig(vocab_size=50, **sizes | fields)


@pytest.mark.parametrize("kind", [Splitting, Masking])
def test_numbers_that_hang_on_a_parameter_are_answered_by_a_witness(kind: type[Splitting]) -> None:
    host = resolve(config(), model_class=kind)
    queries = host.select(["attention.query"])
    assert [site.path for site in queries] == [f"layers.{at}.attention.self.query" for at in range(3)]
    assert {(site.sizes["d_in"], site.sizes["d_out"]) for site in queries} == {(64, 64)}
    assert {site.sizes["d_out"] for site in host.select(["ffn.up"])} == {96}


@pytest.mark.parametrize("kind", [Counting, Unanswering])
def test_without_a_witness_that_asks_the_same_the_first_error_is_told(kind: type[Splitting]) -> None:
    with pytest.raises(PeftrefError) as failure:
        resolve(config(hidden_size=6400, num_attention_heads=50), model_class=kind)
    (problem,) = failure.value.problems
    assert problem.code == "host-not-run"
    assert "on the meta device: RuntimeError: split_with_sizes expects split_sizes to sum exactly to 8" in problem.text


@pytest.mark.parametrize("name", ["jetmoe", "mimi_encoder", "exaone4_5_vision", "blt_patcher"])
def test_types_that_ask_for_numbers_are_resolved_from_their_default_config(name: str) -> None:
    config = tf.CONFIG_MAPPING[name]()
    host = resolve(config)
    assert {"attention", "attention.key", "attention.value", "attention.core", "layer"} <= set(host.slots())
    layers = {site.layer for site in host.select(["attention"])}
    assert len(layers) == (getattr(config, "num_hidden_layers", None) or config.depth)
    assert {site.sizes["d_model"] for site in host.select(["attention"])} == {config.hidden_size}


def small(name: str) -> Callable[[], Any]:
    return lambda: shrunken(tf.CONFIG_MAPPING[name](), Scale(vocab=None, image=1))


SEEN: dict[str, Callable[[], Any]] = {
    **{name: FAMILIES[name] for name in ("llama", "gpt2", "gpt_neox", "bart", "t5_gated", "vit", "bloom")},
    **{name: small(name) for name in ("jetmoe", "mimi_encoder", "exaone4_5_vision", "blt_patcher", "nllb-moe")},
    "splitting": config,
}


@pytest.mark.parametrize("family", SEEN)
def test_what_is_found_on_meta_is_what_a_run_with_numbers_shows(family: str) -> None:
    made = SEEN[family]()
    kind = Splitting if family == "splitting" else class_of(made)
    live = build(kind, made, device="cpu")
    shake(live)
    seen = _sites(record(live, _inputs_that_run(live), device="cpu"))
    found = _sites(observe(build(kind, made)))
    assert seen
    assert found == seen


def _inputs_that_run(model: tf.PreTrainedModel) -> dict[str, Tensor]:
    for inputs in inputs_of(model):
        try:
            with torch.no_grad():
                model(**inputs)
        except Exception:
            continue
        return inputs
    raise AssertionError("it does not run")


def _sites(graph: Any) -> tuple[Site, ...]:
    return tuple(read_graph(Flow(graph)).sites)
