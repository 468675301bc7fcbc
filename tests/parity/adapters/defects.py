"""Where adapters 1.3 is wrong: what it gives, as numbers for tests/parity/test_adapters_defects.py to hold against direct ones."""

from __future__ import annotations

import tempfile
from typing import Any

import adapters
import torch
from adapters import (
    AdapterModelInterface,
    DiReftConfig,
    DoRAConfig,
    LoReftConfig,
    NoReftConfig,
    PrefixTuningConfig,
    SeqBnConfig,
    VeraConfig,
)
from hosts import FIXTURES, batch, host
from safetensors.torch import save_file

NAME = "small"
BERT = {
    "adapter_methods": ["bottleneck"],
    "model_embeddings": "embeddings",
    "model_layers": "encoder.layer",
    "layer_self_attn": "attention",
    "layer_cross_attn": None,
    "attn_k_proj": "self.key",
    "attn_q_proj": "self.query",
    "attn_v_proj": "self.value",
    "attn_o_proj": "output.dense",
    "layer_intermediate_proj": "intermediate.dense",
    "layer_output_proj": "output.dense",
    "layer_pre_self_attn": "attention.self",
    "layer_pre_ffn": "intermediate",
    "layer_ln_1": "attention.output.LayerNorm",
    "layer_ln_2": "output.LayerNorm",
}
"""BERT as a user would describe it to the plug-in interface, by its documentation."""


def module(model: Any, config: Any, interface: Any = None) -> Any:
    """A host with a module of adapters whose tensors are drawn from a seed."""
    adapters.init(model, interface=interface)
    model.add_adapter(NAME, config=config)
    model.train_adapter(NAME)
    torch.manual_seed(2)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if f".{NAME}." in key:
                value.normal_(std=0.3)
    return model.double().eval()


def norms() -> dict[str, torch.Tensor]:
    """The plug-in interface gives every layer the norm of the last one: as it is, and with all norms made alike."""
    found = {}
    for name in ("apart", "alike"):
        for way, interface in (("own", None), ("interface", AdapterModelInterface(**BERT))):
            model = host("bert").base_model
            if name == "alike":
                first, last = (layer.output.LayerNorm for layer in model.encoder.layer)
                first.load_state_dict(last.state_dict())
            model = module(model, SeqBnConfig(reduction_factor=4), interface)
            with torch.no_grad():
                found[f"{way}.{name}"] = model(**batch("bert"))[0]
    return found


def positions() -> dict[str, torch.Tensor]:
    """Attention of T5 with a prefix of zeros: what is left for the tokens is in another proportion than without it."""
    model = host("t5")
    with torch.no_grad():
        plain = model(**batch("t5"), output_attentions=True).encoder_attentions[0]
        model = module(model, PrefixTuningConfig(flat=True, prefix_length=3))
        for key, value in model.named_parameters():
            if f".{NAME}." in key:
                value.zero_()
        prefixed = model(**batch("t5"), output_attentions=True).encoder_attentions[0]
    return {"plain": plain.contiguous(), "prefixed": prefixed.contiguous()}


def padding() -> dict[str, torch.Tensor]:
    """A gated adapter on a sample alone, and on the same sample padded: the gate takes its mean over padding."""
    model = module(host("bert").base_model, SeqBnConfig(reduction_factor=4, use_gating=True))
    ids = batch("bert")["input_ids"][:1]
    padded = torch.cat([ids, torch.zeros(1, 3, dtype=torch.long)], 1)
    mask = (torch.arange(padded.shape[1]) < ids.shape[1]).long()[None]
    with torch.no_grad():
        alone = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
        beside = model(input_ids=padded, attention_mask=mask)[0][:, : ids.shape[1]]
    return {"alone": alone, "padded": beside.contiguous()}


def lengths() -> dict[str, torch.Tensor]:
    """DoRA with alpha unlike r: the tensors of one projection, its output, and that of the weight it is merged to."""
    model = module(host("bert").base_model, DoRAConfig(r=2, alpha=6))
    query = model.encoder.layer[0].attention.self.query
    inside = query.loras[NAME]
    x = torch.randn(2, 5, 16, dtype=torch.double, generator=torch.Generator().manual_seed(3))
    found = {"x": x, "A": inside.lora_A, "B": inside.lora_B, "m": inside.m.weight, "W": query.weight, "b": query.bias}
    found = {key: value.detach().clone() for key, value in found.items()}
    seen: list[torch.Tensor] = []
    query.register_forward_hook(lambda layer, given, out: seen.append(out.detach().clone()))
    query.register_forward_pre_hook(lambda layer, given: (x,))
    with torch.no_grad():
        model(**batch("bert"))
        model.merge_adapter(NAME)
        found["merged"] = torch.nn.functional.linear(x, query.weight, query.bias)
    return found | {"h": seen[0]}


def counts() -> dict[str, torch.Tensor]:
    """VeRA trains whole matrices where the paper has vectors."""
    model = module(host("bert").base_model, VeraConfig(r=2))
    trained = sum(
        value.numel() for key, value in model.named_parameters() if f".{NAME}." in key and value.requires_grad
    )
    return {"vera": torch.tensor(trained)}


def saved() -> dict[str, torch.Tensor]:
    """A DiReFT saved and loaded again: its config does not say that nothing is subtracted."""
    model = module(host("bert").base_model, DiReftConfig(r=2, suffix_positions=1))
    given = batch("bert")
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        before = model(**given)[0]
        model.save_adapter(folder, NAME, use_safetensors=True)
        again = host("bert").base_model
        adapters.init(again)
        again.load_adapter(folder, set_active=True, use_safetensors=True)
        after = again.double().eval()(**given)[0]
    return {"before": before, "after": after}


def decay() -> dict[str, torch.Tensor]:
    """A LoReFT before and after one step of AdamW: its projection, and what the checkpoint keeps of it."""
    model = host("bert").base_model
    adapters.init(model)
    model.add_adapter(NAME, config=LoReftConfig(r=2, tied_weights=True))
    model.train_adapter(NAME)
    model.double()
    inside = model.encoder.layer[0].reft_layer.refts[NAME].units[0].projection
    before = inside.weight.detach().clone()
    optimizer = torch.optim.AdamW(
        [each for each in model.parameters() if each.requires_grad], lr=1e-3, weight_decay=0.01
    )
    model(**batch("bert"))[0].square().sum().backward()
    optimizer.step()
    kept = inside.parametrizations.weight
    return {"before": before, "after": inside.weight, "original": kept.original, "base": kept[0].base}


def decoder() -> dict[str, torch.Tensor]:
    """How far a NoReFT at the last token moves each token of BART's decoder, which is longer than what the encoder read."""
    given = batch("bart") | {"decoder_input_ids": torch.arange(3, 10).repeat(2, 1)}
    model = module(host("bart").base_model, NoReftConfig(r=2, prefix_positions=1, suffix_positions=1))
    seen: list[torch.Tensor] = []
    inside = model.decoder.layers[0].reft_layer
    inside.register_forward_hook(lambda layer, entering, out: seen.append((out - entering[0]).abs().amax(-1)))
    with torch.no_grad():
        model(**given)
    return {"moved": seen[0]}


def short() -> dict[str, torch.Tensor]:
    """A tied NoReFT at the first token and the last three, on a text of two tokens: its tensors, what it reads and gives."""
    model = module(
        host("bert").base_model, NoReftConfig(r=2, prefix_positions=1, suffix_positions=3, tied_weights=True)
    )
    inside, seen = model.encoder.layer[0].reft_layer, {}
    inside.register_forward_hook(lambda layer, entering, out: seen.update(h=entering[0], out=out))
    with torch.no_grad():
        model(input_ids=batch("bert")["input_ids"][:, :2])
    unit = inside.refts[NAME].units[0]
    return {"R": unit.projection.weight, "A": unit.learned_source.weight, "a": unit.learned_source.bias, **seen}


def types() -> dict[str, torch.Tensor]:
    """Whether ReFT as it is by default runs on a host in half precision."""
    model = module(host("bert").base_model, LoReftConfig()).bfloat16()
    try:
        model(**batch("bert"))
    except RuntimeError:
        return {"runs": torch.tensor(False)}
    return {"runs": torch.tensor(True)}


def write_defects() -> None:
    """Writes what each of them gives, one file each."""
    folder = FIXTURES / "defects"
    folder.mkdir(exist_ok=True)
    for make in (norms, positions, padding, lengths, counts, saved, decay, decoder, short, types):
        save_file(
            {key: value.detach().contiguous() for key, value in make().items()}, folder / f"{make.__name__}.safetensors"
        )
