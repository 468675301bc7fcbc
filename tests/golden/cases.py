"""One way to each problem, by its code: a call that raises it, as a user would come to it."""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import (
    AttentionInterface,
    AutoModel,
    BertConfig,
    BloomConfig,
    GPT2Config,
    ParakeetEncoderConfig,
    PretrainedConfig,
    ResNetConfig,
    TimesFmConfig,
    ViTConfig,
)

from benchmarks.reference import updated
from peftref.analyse.count import count
from peftref.design.given import given, rates
from peftref.design.load import load, read, read_file
from peftref.design.new import write_new
from peftref.design.register import register
from peftref.exchange.peft.form import config as peft_config
from peftref.exchange.peft.read import read_peft
from peftref.exchange.peft.write import write_peft
from peftref.host.family import read_family
from peftref.host.locate.resolve import resolve
from peftref.host.presets import load_preset
from peftref.language.ops import TABLE, register_op
from peftref.language.rewrite import rules as laws
from peftref.modules.attach import attach, set_active
from peftref.modules.per_sample import per_sample
from peftref.modules.restore import refill, restore
from peftref.modules.running.carry import Carry
from peftref.modules.running.flow import Flow
from peftref.modules.running.samples import Part, Samples
from peftref.study.budget import parse_budget
from peftref.study.compare import compare
from peftref.study.machine import pick_device
from peftref.study.store import Store
from peftref.study.train.checkpoints import ModuleCallback
from peftref.study.train.classifier import load_classifier
from peftref.study.train.read import read_task
from peftref.study.train.task import Task, load_task
from peftref.study.train.tokenizer import load_tokenizer
from tests.golden.faulty import CHANGED, SOUND, WHOLE
from tests.hosts.families import build, inputs

Case = Callable[[Path], object]


def technique(code: str) -> Case:
    """A technique's file with the fault of a code, as `peftref check` reads it."""

    def run(folder: Path) -> object:
        text = WHOLE.get(code) or SOUND.replace(*CHANGED[code])
        assert code in WHOLE or CHANGED[code][0] in SOUND
        path = folder / "sample.yaml"
        path.write_text(text, encoding="utf-8")
        return read_file(path)

    return run


def rows(text: str, name: str = "train.tsv", **more: Any) -> Case:
    """A task whose train file has some text."""

    def run(folder: Path) -> object:
        (folder / name).write_text(text, encoding="utf-8")
        return read_task(Task(name="mine", title="Mine", **more), folder)

    return run


def saved(folder: Path) -> tuple[Any, Path]:
    """A host, and the folder of a LoRA saved on it."""
    model = build("llama")
    attached = attach(model, load("lora", r=2))
    place = attached.save(folder / "saved")
    attached.detach()
    return model, place


def refilled_by_another(folder: Path) -> object:
    model, place = saved(folder)
    refill(attach(model, load("lora", r=4)), place)
    return None


def resumed_from_nowhere(folder: Path) -> object:
    callback = ModuleCallback(attach(build("llama"), load("ia3")))
    arguments, state = mock.Mock(output_dir=str(folder)), mock.Mock(global_step=20)
    callback.on_train_begin(arguments, state, None)
    return None


def edited(folder: Path, **changes: object) -> object:
    model, place = saved(folder)
    record = place / "module.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | changes))
    return restore(model, place)


def other_seed(folder: Path) -> object:
    """A frozen random leaf whose digest is not that of what the seed gives."""
    model = build("llama")
    attached = attach(model, load("vera", r=2))
    place = attached.save(folder / "saved")
    attached.detach()
    record = json.loads((place / "module.json").read_text())
    record["made"] = dict.fromkeys(record["made"], "0" * 64)
    record["versions"]["torch"] = "1.0"
    (place / "module.json").write_text(json.dumps(record))
    return restore(model, place)


def without_weights(folder: Path) -> object:
    attached = attach(build("t5"), load("full"))
    attached.save(folder / "saved")
    with torch.device("meta"):
        empty = build("t5")
    return restore(empty, folder / "saved")


def flipped(folder: Path) -> object:
    model, place = saved(folder)
    path = place / "module.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    return restore(model, place)


def missing(folder: Path) -> object:
    model, place = saved(folder)
    (place / "technique.yaml").unlink()
    return restore(model, place)


def elsewhere(folder: Path) -> object:
    _, place = saved(folder)
    return restore(build("bert"), place)


def detached(folder: Path) -> object:
    attached = attach(build("llama"), load("ia3"))
    attached.detach()
    attached.merge()
    return None


def merged_before_another(folder: Path) -> object:
    model = build("llama")
    attach(model, load("lora", r=2), "one")
    two = attach(model, load("ia3"), "two")
    set_active(model, ["one", "two"])
    two.merge()
    return None


def merged_for_good_while_idle(folder: Path) -> object:
    attached = attach(build("llama"), load("lora", r=2), "one")
    attached.disable()
    return attached.merge(keep=False)


def mixed(family: str, name: str, names: list[str | None], batch: int = 2) -> Callable[[Path], object]:
    """A batch in which the samples have a technique, or none."""

    def run(folder: Path) -> object:
        model = build(family)
        attach(model, load(name), "a")
        with per_sample(model, names):
            return model(**inputs(model, rows=batch))

    return run


def changed_within(folder: Path) -> None:
    model = build("llama")
    attached = attach(model, load("lora"))
    with per_sample(model, ["default"]):
        attached.merge()


def in_windows(folder: Path) -> None:
    flow = Flow(samples=Samples(("a", None)), shape=(2, 4))
    Part(flow.samples, "a", flow).take(torch.zeros(8, 2, 3))


def tasks_that_are_none(folder: Path) -> object:
    with attach(build("llama"), load("poly")).tasks(torch.zeros(2)):
        return None


class Few(torch.Tensor):
    """What a library keeps in few bits."""


def in_few_bits(folder: Path) -> None:
    model = build("llama")
    query = model.layers[1].self_attn.q_proj
    query.weight = torch.nn.Parameter(query.weight.detach().as_subclass(Few), requires_grad=False)
    attach(model, load("lora", r=2)).merge()


def unbegun(folder: Path) -> object:
    model = build("llama")
    attach(model, load("eva", r=2))
    return model.train()(**inputs(model))


def tuned_by_two(folder: Path) -> object:
    model = build("llama")
    attach(model, load("full"), "one")
    attach(model, load("full"), "two")
    set_active(model, ["one", "two"])
    return None


def fixed_mask(folder: Path) -> object:
    model = build("bert")
    attach(model, load("prompt", tokens=2))
    ids = inputs(model)["input_ids"]
    return model(input_ids=ids, attention_mask=torch.zeros(ids.shape[0], 1, ids.shape[1], ids.shape[1]))


def two_streams(folder: Path) -> object:
    model = build("xlnet")
    attach(
        model,
        read(
            SOUND.replace("[attention.query, attention.value]", "attention")
            .replace("d_in", "d_model")
            .replace("d_out", "d_model")
            .replace("@ x", "@ out")
        ),
    )
    ids = inputs(model)["input_ids"]
    return model(ids, target_mapping=torch.eye(ids.shape[1]).expand(len(ids), -1, -1))


def packed_mean(folder: Path) -> object:
    model = build("llama")
    attach(model, load("unipelt", tokens=2, r=2, bottleneck=4))
    places = torch.tensor([[0, 1, 2, 0, 1]])
    return model(input_ids=torch.full((1, 5), 7), position_ids=places, use_cache=False)


def rows_in_flash(folder: Path) -> object:
    AttentionInterface.register("like_flash", lambda *given, **more: None)
    model = build("llama")
    model.config._attn_implementation = "like_flash"
    attach(model, load("prefix", tokens=2))
    places = torch.tensor([[0, 1, 2, 0, 1]])
    return model(input_ids=torch.full((1, 5), 7), position_ids=places, use_cache=False)


def positions_used_up(folder: Path) -> object:
    model = build("gpt2", n_positions=8)
    attach(model, load("prompt", tokens=2))
    return model(input_ids=torch.full((1, 7), 7))


def stacked_on_no_linear_map(folder: Path) -> object:
    model = build("llama")
    attach(model, load("lily", r=2, experts=2), "one")
    attach(model, load("dora", r=2), "two")
    return set_active(model, ["one", "two"])


def shared_by_unequal_sites(folder: Path) -> object:
    leaves = "{A: {shape: [d_in], init: ones, scope: layer}}"
    text = f"{{name: m, title: M, insert: [{{at: [ffn.up, ffn.down], leaves: {leaves}, equation: x' = A * x}}]}}"
    return count(read(text), "bert-base")


def indivisible(folder: Path) -> object:
    return count(load("compacter", n=7), "bert-base")


def twice(folder: Path) -> object:
    for place in ("one", "two"):
        (folder / place / "techniques").mkdir(parents=True)
        (folder / place / "techniques" / "sample.yaml").write_text(SOUND)
    with mock.patch.dict(os.environ, {"PEFTREF_CATALOG": f"{folder / 'one'}{os.pathsep}{folder / 'two'}"}):
        return load("sample")


def task_twice(folder: Path) -> object:
    (folder / "tasks").mkdir()
    (folder / "tasks" / "sst2.yaml").write_text("name: sst2\ntitle: Mine\n")
    with mock.patch.dict(os.environ, {"PEFTREF_CATALOG": str(folder)}):
        return load_task("sst2")


def misnamed(folder: Path) -> object:
    (folder / "techniques").mkdir()
    (folder / "techniques" / "other.yaml").write_text(SOUND)
    with mock.patch.dict(os.environ, {"PEFTREF_CATALOG": str(folder)}):
        return load("other")


def full_disk(folder: Path) -> object:
    store = Store(folder / "study")
    store.prepare()
    with mock.patch("os.fsync", side_effect=OSError(errno.ENOSPC, "No space left on device")):
        return store.write("run", {"a": 1})


def no_place(folder: Path) -> object:
    (folder / "file").write_text("")
    Store(folder / "file" / "study").prepare()
    return None


def locked(folder: Path) -> object:
    with Store(folder).locked(), mock.patch("os.getpid", return_value=7), Store(folder).locked():
        return None


def bad_task(folder: Path) -> object:
    (folder / "mine.yaml").write_text("name: mine\ntitle: Mine\nmax_length: 1\ncolours: 3\n")
    return load_task(str(folder / "mine.yaml"))


def broken_task(folder: Path) -> object:
    (folder / "mine.yaml").write_text("name: [mine\n")
    return load_task(str(folder / "mine.yaml"))


def two_files(folder: Path) -> object:
    for name in ("train.tsv", "train.csv"):
        (folder / name).write_text("text\tlabel\na\t0\n")
    return read_task(Task(name="mine", title="Mine"), folder)


def written_twice(folder: Path) -> object:
    with mock.patch("peftref.design.new.Path", lambda *parts: folder.joinpath(*parts)):
        write_new("mine", folder=folder)
        return write_new("mine", folder=folder)


def registered_twice(folder: Path) -> object:
    path = folder / "sample.yaml"
    path.write_text(SOUND)
    with mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": str(folder / "config"), "HOME": str(folder)}):
        register(path)
        return register(path)


CARRIED = """name: beside
title: Beside
carries: {s: [4]}
insert:
  - {at: attention, leaves: {D: {shape: [4, d_model], init: {normal: 0.02}}}, equation: "s' = s + D @ h"}
  - {at: ffn, leaves: {U: {shape: [d_model, 4], init: zeros}}, equation: "h' = h + U @ s"}
"""


def one_layer_alone(folder: Path) -> object:
    model = build("gpt2")
    attach(model, read(CARRIED))
    return model.h[1](torch.zeros(1, 3, 32))


def reentrant(folder: Path) -> object:
    model = build("llama")
    attach(model, read(CARRIED))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.gradient_checkpointing_enable({"use_reentrant": True})
        return model.train()(**inputs(model))


def other_tokens(folder: Path) -> object:
    flow = Flow(carried={("mine", "s"): torch.zeros(1, 3, 4)})
    return Carry(flow, "mine", {"s": (4,)}).read("s", torch.zeros(1, 2, 32), torch.float32)


def no_past(folder: Path) -> object:
    return attach(
        AutoModel.from_config(BloomConfig(vocab_size=99, hidden_size=32, n_layer=2, n_head=4)), "adaption_prompt"
    )


def checkpointed_keys(folder: Path) -> object:
    model = AutoModel.from_config(BloomConfig(vocab_size=99, hidden_size=32, n_layer=1, n_head=4))
    attach(model, load("prefix", tokens=2))
    model.gradient_checkpointing_enable()
    return model.train()(input_ids=torch.tensor([[5, 6]]))


def grouped(folder: Path) -> object:
    config = ParakeetEncoderConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48, subsampling_conv_channels=8,
        num_mel_bins=16, subsampling_factor=4,
    )  # fmt: skip
    found = attach(AutoModel.from_config(config), load("lora", r=2).moved("embedding.stem"))
    for parameter in found.parameters():
        torch.nn.init.ones_(parameter)
    return found.merge()


def occupied(folder: Path) -> object:
    (folder / "notes.txt").write_text("mine")
    return attach(build("llama"), load("lora", r=2)).save(folder)


def encoded(folder: Path) -> object:
    path = folder / "sample.yaml"
    path.write_bytes(SOUND.replace("Sample", "Sämple").encode("latin-1"))
    return read_file(path)


def huge(folder: Path) -> object:
    path = folder / "sample.yaml"
    path.write_bytes(b"#" * (2 << 20))
    return read_file(path)


def latin_rows(folder: Path) -> object:
    (folder / "train.tsv").write_bytes("text\tlabel\nschön\t1\n".encode("latin-1"))
    return read_task(Task(name="mine", title="Mine"), folder)


class Odd(PretrainedConfig):  # type: ignore[misc]  # transformers is not typed
    """A config of no model that transformers knows."""

    model_type = "odd"


def checkpoint(folder: Path, **fields: Any) -> tuple[Any, Path]:
    """A host, and the folder of a checkpoint of peft with some fields of its config changed."""
    model = build("bert")
    place = write_peft(attach(model, load("lora", r=2)), folder / "there")
    config = place / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | fields))
    return build("bert"), place


def from_peft(folder: Path, **fields: Any) -> object:
    model, place = checkpoint(folder, **fields)
    return read_peft(place, model)


def without_peft(folder: Path) -> object:
    with mock.patch.dict(sys.modules, {"peft": None}):
        return read_peft(folder, build("bert"))


def from_pickle(folder: Path) -> object:
    model, place = checkpoint(folder)
    (place / "adapter_model.safetensors").rename(place / "adapter_model.bin")
    return read_peft(place, model)


def cut_checkpoint(folder: Path) -> object:
    model, place = checkpoint(folder)
    (place / "adapter_config.json").write_text("{")
    return read_peft(place, model)


def biased(folder: Path) -> object:
    attach(build("llama"), load("bitfit")).merge()
    return None


def nowhere(folder: Path) -> object:
    text = (
        "{name: m, title: M, insert: [{at: norm, leaves: {s: {shape: [d_model], init: zeros}}, equation: b' = b + s}]}"
    )
    return count(read(text), "llama-2-7b")


def offline(folder: Path) -> object:
    with mock.patch("datasets.load_dataset", side_effect=ConnectionError("the hub cannot be reached")):
        return read_task(load_task("sst2"))


def torn_map(folder: Path) -> object:
    path = folder / "mine.yaml"
    path.write_text("{model_type: mine, title: Mine, attentions: [{module: layers, n_heads: 4}]}", encoding="utf-8")
    return read_family(path)


def without_split(folder: Path) -> object:
    with mock.patch("datasets.load_dataset", return_value={"test": None}):
        return read_task(load_task("sst2"))


CASES: dict[str, Case] = {code: technique(code) for code in (*CHANGED, *WHOLE)} | {
    "bad-budget": lambda folder: parse_budget("half", 1000),
    "carry-length": other_tokens,
    "carry-outside": one_layer_alone,
    "checkpoint-reentrant": reentrant,
    "mixes-groups": grouped,
    "bad-label": rows("text\tlabel\na\tyes\nb\tno\nc\tperhaps\n", labels=("no", "yes")),
    "bad-op": lambda folder: register_op(replace(TABLE["kron"], name="twice")),
    "bad-rate": lambda folder: rates("1e-3,fast,-1"),
    "bad-rows": rows("text\tlabel\na\t0\nb\tc\t1\n"),
    "bad-setting": lambda folder: given("lora:r"),
    "move-several": lambda folder: given("mam", at=["embedding.tokens"]),
    "bad-task": bad_task,
    "broken-yaml": broken_task,
    "cannot-write": no_place,
    "detached": detached,
    "disk-full": full_disk,
    "duplicate-technique": twice,
    "empty-rows": rows("text\tlabel\na\t0\n\t1\nb\t1\n"),
    "empty-split": rows("text\tlabel\n"),
    "file-exists": written_twice,
    "host-differs": elsewhere,
    "host-map-wrong": torn_map,
    "host-no-slots": lambda folder: resolve(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])),
    "host-not-built": lambda folder: resolve(BertConfig(hidden_size=30, num_attention_heads=4)),
    "host-not-run": lambda folder: resolve(TimesFmConfig()),
    "host-unknown": lambda folder: load_preset("bert-bass"),
    "indivisible": indivisible,
    "layer-absent": lambda folder: count(read(SOUND.replace("equation:", "layers: [12]\n    equation:")), "bert-base"),
    "flash-rows": rows_in_flash,
    "mask-fixed": fixed_mask,
    "stream-twice": two_streams,
    "packed": packed_mean,
    "table-full": positions_used_up,
    "bad-rule": lambda folder: laws.register(laws.rules("product")[0]),
    "merge-order": merged_before_another,
    "merge-for-good": merged_for_good_while_idle,
    "few-bits": in_few_bits,
    "tied-weight": lambda folder: attach(
        build("llama", "CausalLM", tie_word_embeddings=True), load("lora", r=2).moved("head")
    ).merge(),
    "missing-column": rows("sentence\tlabel\na\t0\n"),
    "name-mismatch": misnamed,
    "name-taken": lambda folder: [attach(model := build("llama"), load("ia3")), attach(model, load("ia3"))],
    "no-host": lambda folder: compare(["lora"], task="sst2", data=folder, show=False),
    "no-model-class": lambda folder: resolve(Odd()),
    "host-unreachable": lambda folder: load_classifier(str(folder / "none"), 2, 0),
    "hub-unreachable": offline,
    "no-peer": lambda folder: peft_config(load("houlsby"), resolve("bert-base")),
    "checkpoint-damaged": cut_checkpoint,
    "checkpoint-missing": lambda folder: read_peft(folder, build("bert")),
    "checkpoint-pickled": from_pickle,
    "peft-missing": without_peft,
    "peer-differs": lambda folder: write_peft(attach(build("bert"), load("fourierft", k=5)), folder / "there"),
    "peer-field": lambda folder: from_peft(folder, bias="all", layer_replication=[[0, 1]], new=3),
    "peer-refuses": lambda folder: from_peft(folder, target_modules=["q_proj"]),
    "peer-targets": lambda folder: from_peft(folder, target_modules=["position_embeddings"]),
    "peer-slice": lambda folder: peft_config(load("lora"), resolve("gpt2")),
    "no-sites": nowhere,
    "no-such-split": without_split,
    "no-batches": unbegun,
    "no-task": lambda folder: compare(["lora"], host=str(folder), show=False),
    "no-tokenizer": lambda folder: load_tokenizer(str(folder), GPT2Config()),
    "not-a-classifier": lambda folder: load_classifier(ViTConfig(), 2, 0),
    "nothing-to-compare": lambda folder: compare([], host=str(folder), task="sst2", show=False),
    "unreadable-data": rows("text\ttext\tlabel\na\tb\t0\n"),
    "no-source": lambda folder: read_task(Task(name="mine", title="Mine")),
    "no-study": lambda folder: Store(folder).read_plan(),
    "no-such-device": lambda folder: pick_device("quantum"),
    "no-such-file": lambda folder: read_task(Task(name="mine", title="Mine"), folder / "none"),
    "not-mergeable": biased,
    "not-utf8": latin_rows,
    "resume-place": resumed_from_nowhere,
    "saved-damaged": flipped,
    "saved-missing": missing,
    "saved-seed": other_seed,
    "host-empty": without_weights,
    "training-fact": lambda folder: attach(build("llama"), load("ia3")).note(steps=10, lr=float("nan"), data=["sst2"]),
    "saved-version": lambda folder: edited(folder, format=99),
    "save-place": occupied,
    "setting-type": lambda folder: load("lora", r="many"),
    "init-size": lambda folder: attach(build("llama"), load("fourierft")),
    "stack-order": stacked_on_no_linear_map,
    "shared-shape": shared_by_unequal_sites,
    "single-class": rows("text\tlabel\na\t1\nb\t1\nc\t1\n" + "".join(f"t{i}\t1\n" for i in range(40))),
    "core-own": no_past,
    "keys-cache": checkpointed_keys,
    "slot-absent": lambda folder: count(read(SOUND.replace("attention.query", "cross_attention.query")), "bert-base"),
    "study-locked": locked,
    "task-twice": task_twice,
    "tasks": tasks_that_are_none,
    "samples": mixed("llama", "lora", ["a", None, "a"]),
    "samples-chosen": changed_within,
    "samples-layout": in_windows,
    "samples-length": mixed("vit", "prompt", ["a", None]),
    "samples-tuned": mixed("llama", "full", ["a", None]),
    "opaque": lambda folder: given("peft:xlora"),
    "technique-differs": refilled_by_another,
    "technique-exists": registered_twice,
    "tune-part": lambda folder: attach(build("gpt2"), read("{name: m, title: M, tune: [attention.query]}")),
    "tuned-twice": tuned_by_two,
    "two-files": two_files,
    "unknown-part": lambda folder: updated("<!-- made: nothing -->\n<!-- end -->"),
    "unknown-setting": lambda folder: load("lora", rank=3),
    "unknown-task": lambda folder: load_task("sst3"),
    "unknown-technique": lambda folder: load("houlsbi"),
    "unreadable": lambda folder: read_file(folder / "none.yaml"),
    "yaml-encoding": encoded,
    "yaml-size": huge,
}
