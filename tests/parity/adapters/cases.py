"""What the fixtures hold: configs of adapters, small enough for the hosts, and the families that each is written for."""

from __future__ import annotations

from typing import Any

from adapters import (
    AdapterConfig,
    AdapterPlusConfig,
    BnConfig,
    CompacterConfig,
    CompacterPlusPlusConfig,
    ConfigUnion,
    DoRAConfig,
    DoubleSeqBnConfig,
    DoubleSeqBnInvConfig,
    IA3Config,
    LoRAConfig,
    LoReftConfig,
    NoReftConfig,
    ParBnConfig,
    PrefixTuningConfig,
    SeqBnConfig,
    SeqBnInvConfig,
    VeraConfig,
)

ALL = ("bert", "llama", "gpt2", "t5", "bart", "vit")
FOUR = ("bert", "llama", "bart", "vit")
FIVE = (*FOUR, "t5")
POST = ("bert", "bart")
TEXT = ("bert", "llama", "t5", "bart")
PHM: dict[str, Any] = {"reduction_factor": 2, "phm_dim": 2}

CASES: dict[str, tuple[AdapterConfig, tuple[str, ...]]] = {
    "seq_bn": (SeqBnConfig(reduction_factor=4), ALL),
    "seq_bn_gelu": (SeqBnConfig(reduction_factor=4, non_linearity="gelu"), ("bert", "gpt2")),
    "seq_bn_left_out": (SeqBnConfig(reduction_factor=4, leave_out=[0]), ("bert", "t5", "bart")),
    "seq_bn_residual_after": (SeqBnConfig(reduction_factor=4, residual_before_ln=False), POST),
    "double_seq_bn": (DoubleSeqBnConfig(reduction_factor=4), ALL),
    "double_seq_bn_cross": (DoubleSeqBnConfig(reduction_factor=4, cross_adapter=True), ("t5", "bart")),
    "mh_bn": (DoubleSeqBnConfig(reduction_factor=4, output_adapter=False), FOUR),
    "ln_before": (SeqBnConfig(reduction_factor=4, ln_before=True), FOUR),
    "ln_after": (SeqBnConfig(reduction_factor=4, ln_after=True), FOUR),
    "ln_after_sum": (SeqBnConfig(reduction_factor=4, ln_after=True, adapter_residual_before_ln=True), FOUR),
    "par_bn": (ParBnConfig(reduction_factor=4, scaling=1.0), ALL),
    "scaled_par_bn": (ParBnConfig(reduction_factor=4), FOUR),
    "learned_par_bn": (ParBnConfig(reduction_factor=4, scaling="learned"), FOUR),
    "adapter_plus": (AdapterPlusConfig(reduction_factor=4, stochastic_depth=0.0), FOUR),
    "compacter": (CompacterConfig(**PHM), FIVE),
    "compacter_plus": (CompacterPlusPlusConfig(**PHM), FOUR),
    "seq_bn_inv": (SeqBnInvConfig(reduction_factor=4), TEXT),
    "double_seq_bn_inv": (DoubleSeqBnInvConfig(reduction_factor=4), ("bert",)),
    "gated_bn": (SeqBnConfig(reduction_factor=4, use_gating=True), FIVE),
    "lora": (LoRAConfig(r=2, alpha=3), FIVE),
    "lora_all": (
        LoRAConfig(r=2, alpha=3, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True),
        FOUR,
    ),
    "lora_gated": (LoRAConfig(r=2, use_gating=True), FOUR),
    "ia3": (IA3Config(), FIVE),
    "prefix_flat": (PrefixTuningConfig(flat=True, prefix_length=3), FOUR),
    "prefix_mlp": (PrefixTuningConfig(bottleneck_size=5, prefix_length=3), FOUR),
    "noreft": (NoReftConfig(r=2, prefix_positions=2, suffix_positions=1, tied_weights=True), FOUR),
    "noreft_untied": (NoReftConfig(r=2), FOUR),
    "noreft_overlapping": (NoReftConfig(r=2, suffix_positions=3), FOUR),
    "loreft": (LoReftConfig(r=2, prefix_positions=2, suffix_positions=1, tied_weights=True), FOUR),
    "loreft_untied": (LoReftConfig(r=2, prefix_positions=2, suffix_positions=2), FOUR),
    "loreft_last_layer": (LoReftConfig(r=3, layers=[1]), ("bert", "llama")),
    "dora": (DoRAConfig(r=2, alpha=2), ("llama", "t5")),
    "vera": (VeraConfig(r=2, alpha=2), ("bert", "bart", "vit", "t5")),
    "mam": (
        ConfigUnion(PrefixTuningConfig(flat=True, prefix_length=3), ParBnConfig(reduction_factor=4)),
        FOUR,
    ),
}
"""Configs by name; `BnConfig` itself has no defaults, so each wiring is one of its presets with fields changed."""

assert all(isinstance(config, AdapterConfig | BnConfig) for config, _ in CASES.values())
