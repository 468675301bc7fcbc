"""What a host gives with a technique is what it gives alone with the rows put in by hand: vectors, keys and values, attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.modules.attach import attach, set_active
from peftref.modules.attached import Attached
from peftref.modules.running.own import Own
from tests.modules.running.hosts import CAUSAL, ENCODERS, build, tokens
from tests.modules.running.techniques import CORE, FIRST, KEYS, LENGTHENING, shake, stand
from tests.modules.running.test_alone import close, pack, positions
from tests.modules.running.test_generate import WAYS, generated
from tests.small import small

torch.set_num_threads(1)
PROMPT, PREFIX, ADAPTER = LENGTHENING[0], KEYS[0], CORE[0]
ROWS = 3


def rows(found: Attached) -> Tensor:
    """The vectors that a prompt puts in front of two sequences."""
    (leaf,) = found.module.copies
    return found.module.leaf(leaf.name).detach().expand(2, -1, -1)


def by_hand(model: Any, found: Attached, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The inputs of the host alone that hold the rows of a prompt in front; where tokens see windows only, behind padding."""
    vectors = model.get_input_embeddings()(ids)
    if model.config.model_type == "gemma2":
        vectors = model.model.embed_tokens(ids)
    windows = model.config.model_type in ("mistral", "gemma2", "modernbert")
    lines, masks = [], []
    for line, seen, front in zip(vectors, mask, rows(found), strict=True):
        padding = int(seen.argmax()) if windows else 0
        lines.append(torch.cat([line[:padding], front, line[padding:]]))
        masks.append(torch.cat([seen[:padding], torch.ones(ROWS, dtype=torch.long), seen[padding:]]))
    return {"inputs_embeds": torch.stack(lines), "attention_mask": torch.stack(masks)}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", [*CAUSAL, *ENCODERS])
def test_a_prompt_is_vectors_in_front(family: str, side: str) -> None:
    model = build(family)
    found = stand(model, PROMPT)
    ids, mask = tokens(2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[1, slice(0, 2) if side == "left" else slice(6, 9)] = 0
    with torch.no_grad():
        here = model(input_ids=ids, attention_mask=mask, **positions(mask, model))[0]
        found.disable()
        given = by_hand(model, found, ids, mask)
        wanted = model(**given, **positions(given["attention_mask"], model))[0]
        found.enable()
        vectors = model(inputs_embeds=model.get_input_embeddings()(ids), attention_mask=mask, **positions(mask, model))[
            0
        ]
    wanted, seen = wanted[:, ROWS:], mask.bool()
    close(here[seen], wanted[seen])
    close(vectors[seen], wanted[seen])


@pytest.mark.parametrize("family", list(CAUSAL))
def test_generation_with_a_prompt_is_generation_from_vectors(family: str) -> None:
    model = build(family)
    found = stand(model, PROMPT)
    ids, mask = tokens(2, 7), torch.ones(2, 7, dtype=torch.long)
    mask[1, :2] = 0
    with torch.no_grad():
        given = by_hand(model, found, ids, mask)
    for options in WAYS.values():
        here = generated(model, {"input_ids": ids, "attention_mask": mask}, **options)
        found.disable()
        assert torch.equal(here[:, 7:], generated(model, given, **options))
        found.enable()


class ByHand:
    """Attention of the host alone, written out, with what a technique adds at some modules."""

    def __init__(self, found: Attached) -> None:
        self.added: dict[Any, tuple[Tensor, ...]] = {}
        for site in found.module.host.sites:
            if site.name in found.module.runs:
                module = found.model.get_submodule(site.path)
                self.added[module] = self.of(found, site)

    @staticmethod
    def of(found: Attached, site: Any) -> tuple[Tensor, ...]:
        """Keys and values [tokens, heads, d], and the gate of what they give apart, or None."""
        leaf = {name: found.module.leaf(f"{site.name}.{name}") for name in ("Pk", "Pv", "P", "g")
                if any(copy.name == f"{site.name}.{name}" for copy in found.module.copies)}  # fmt: skip
        if "Pk" in leaf:
            return leaf["Pk"], leaf["Pv"]
        made = []
        for slot, size in (("key", "d_head"), ("value", "d_value")):
            other = next(each for each in found.module.host.sites if each.name == site.name.replace("core", slot))
            own = Own(found.model.get_submodule(other.path))
            flat = leaf["P"] @ own.quantity("W", other).T + own.quantity("b", other)
            made.append(flat.reshape(len(flat), -1, site.sizes[size]))
        return (*made, leaf["g"])

    def __call__(self, module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **more: Any) -> Any:
        """Attention, written out."""
        scale = more.get("scaling") or q.shape[-1] ** -0.5
        groups = q.shape[1] // k.shape[1]

        def scores(keys: Tensor) -> Tensor:
            made = q @ keys.repeat_interleave(groups, 1).mT * scale
            cap = more.get("softcap")
            return made if cap is None else cap * torch.tanh(made / cap)

        weight = scores(k)
        weight = weight + (0 if more.get("position_bias") is None else more["position_bias"])
        weight = weight + (0 if mask is None else mask[..., : k.shape[2]])
        values, apart = v.repeat_interleave(groups, 1), 0
        if module in self.added:
            keys, rows, *gate = (each.detach() for each in self.added[module])
            keys, rows = (each.transpose(0, 1).expand(q.shape[0], -1, -1, -1) for each in (keys, rows))
            rows = rows.repeat_interleave(groups, 1)
            if gate:
                plain = q @ keys.repeat_interleave(groups, 1).mT * q.shape[-1] ** -0.5
                apart = gate[0] * (plain.softmax(-1) @ rows)
            else:
                weight, values = torch.cat([scores(keys), weight], -1), torch.cat([rows, values], 2)
        return (weight.softmax(-1) @ values + apart).transpose(1, 2).contiguous(), None


ATTENDING = ("llama", "gpt2", "opt", "mistral", "gemma2", "bert", "modernbert", "t5", "bart", "vit")


@pytest.mark.parametrize("name", [PREFIX, ADAPTER])
@pytest.mark.parametrize("family", ATTENDING)
def test_keys_and_values_are_rows_in_attention(family: str, name: str) -> None:
    """With a mask of each side, windows, relative distances, grouped heads: attention written out, and positions moved by hand."""
    model, other = build(family), build(family)
    found = stand(model, name)
    ids, mask = tokens(2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[0, 7:], mask[1, :2] = 0, 0
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    moved = dict(given)
    if family == "vit":
        given = moved = {"pixel_values": torch.randn(2, 3, 16, 16)}
    elif family in ("t5", "bart"):
        given = moved = {**given, "decoder_input_ids": tokens(2, 5, seed=4)}
    else:
        places = positions(mask, model)["position_ids"]
        given, moved = {**given, "position_ids": places}, {**moved, "position_ids": places + ROWS * (name == PREFIX)}
    with torch.no_grad():
        here = model(**given)[0]
        AttentionInterface.register("by_hand", ByHand(found))
        AttentionMaskInterface.register("by_hand", eager_mask)
        if family == "bart":
            found.detach()
            found = attach(model, small(load(name)).with_settings(**({"counted": False} if name == PREFIX else {})))
            shake(found)
            here = model(**given)[0]
            AttentionInterface.register("by_hand", ByHand(found))
        names = {id(module): key for key, module in model.named_modules()}
        hand = ByHand(found)
        hand.added = {other.get_submodule(names[id(module)]): rows for module, rows in hand.added.items()}
        AttentionInterface.register("by_hand", hand)
        other.set_attn_implementation("by_hand")
        for module in other.modules():
            if hasattr(module, "config"):
                module.config._attn_implementation = "by_hand"
        wanted = other(**moved)[0]
    seen = mask.bool() if here.shape[1] == 9 and family not in ("t5", "bart") else slice(None)
    close(here[seen], wanted[seen])


@pytest.mark.parametrize("function", ["sdpa", "flex_attention"])
@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("family", ["llama", "mistral", "bert"])
def test_every_attention_function_gives_the_same(family: str, name: str, function: str) -> None:
    plain, here = build(family), build(family, function)
    for model in (plain, here):
        stand(model, name)
    ids, mask = tokens(2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    stance: Any = torch.compiler.set_stance("force_eager" if function == "flex_attention" else "default")
    with stance, torch.no_grad():
        for given in ({"input_ids": ids}, {"input_ids": ids, "attention_mask": mask}):
            seen = given.get("attention_mask", torch.ones_like(ids)).bool()
            close(here(**given)[0][seen], plain(**given)[0][seen])


def like_flash(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **more: Any) -> Any:
    """Attention as flash attention does it: told where sequences start, of a mask [batch, tokens], and of a window."""
    starts, keys = (more.get(name) for name in ("cu_seq_lens_q", "cu_seq_lens_k"))
    queries, size = q.shape[2], k.shape[2]
    seen = torch.ones(queries, size).tril(size - queries).bool()
    if starts is not None:
        number = [
            torch.searchsorted(each[1:], torch.arange(n), right=True) for each, n in ((starts, queries), (keys, size))
        ]
        seen = seen & (number[0][:, None] == number[1])
    seen = seen[None, None] if mask is None else seen & mask[:, None, None].bool()
    groups = q.shape[1] // k.shape[1]
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), seen
    )
    return out.nan_to_num().transpose(1, 2), None


def flashing(family: str) -> Any:
    """A host with attention that works as flash attention does."""
    AttentionInterface.register("like_flash", like_flash)
    AttentionMaskInterface.register("like_flash", lambda *_, attention_mask=None, **more: attention_mask)
    model = build(family)
    model.config._attn_implementation = "like_flash"
    return model


@pytest.mark.parametrize("name", [name for name in FIRST if name != PREFIX])
def test_sequences_told_by_where_they_start(name: str) -> None:
    model = flashing("llama")
    stand(model, name)
    a, b = tokens(1, 5)[0], tokens(1, 4, seed=2)[0]
    ids, places = pack([[a, b]])
    starts = torch.tensor([0, 5, 9], dtype=torch.int32)
    more = {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": 5, "max_length_k": 5}
    with torch.no_grad():
        here = model(input_ids=ids, position_ids=places, use_cache=False, **more)[0]
        close(here, torch.cat([model(input_ids=each[None])[0] for each in (a, b)], 1))


def test_rows_in_front_of_keys_in_flash_attention() -> None:
    """As in other attention where it is given a mask; where it is told of packing or of a window, an error."""
    model, plain = flashing("llama"), build("llama")
    for each in (model, plain):
        stand(each, PREFIX)
    ids, mask = tokens(2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    with torch.no_grad():
        for given in ({}, {"attention_mask": mask}):
            seen = given.get("attention_mask", torch.ones_like(ids)).bool()
            close(model(input_ids=ids, **given)[0][seen], plain(input_ids=ids, **given)[0][seen])
    starts = torch.tensor([0, 5, 9], dtype=torch.int32)
    for told in (
        {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts},
        {"position_ids": pack([[ids[0, :5], ids[1, :4]]])[1]},
    ):
        with pytest.raises(PeftrefError, match="flash-rows"):
            model(input_ids=ids[:1], use_cache=False, **told)
    narrow = flashing("mistral")
    stand(narrow, PREFIX)
    with torch.no_grad():
        narrow(input_ids=ids[:, :4])
    with pytest.raises(PeftrefError, match="flash-rows"):
        narrow(input_ids=ids)


@pytest.mark.parametrize("family", ["llama", "gpt2", "roberta", "mistral"])
def test_rows_of_a_prompt_stand_behind_those_of_a_prefix(family: str) -> None:
    """Whichever came first, with positions given or not: the prompt from the end of the prefix on, and the tokens behind both."""
    outs = []
    ids = tokens(2, 9)
    first = 1 if family == "roberta" else 0
    for order in ((PROMPT, PREFIX), (PREFIX, PROMPT)):
        model = build(family)
        for name in order:
            shake(attach(model, small(load(name)), name))
        set_active(model, order)
        with torch.no_grad():
            outs += [model(input_ids=ids)[0], model(input_ids=ids, position_ids=torch.arange(9)[None] + first)[0]]
    for out in outs[1:]:
        close(out, outs[0])
    model = build(family)
    prompt = attach(model, small(load(PROMPT)), PROMPT)
    shake(prompt)
    given = {"inputs_embeds": torch.cat([rows(prompt), model.get_input_embeddings()(ids)], 1)}
    prompt.detach()
    shake(attach(model, small(load(PREFIX)), PREFIX))
    with torch.no_grad():
        close(model(**given)[0][:, ROWS:], outs[0])
