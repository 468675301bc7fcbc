"""Generation: every cache gives what no cache gives, for every way of choosing tokens, and a padded line what it gives alone."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor

from tests.modules.running.hosts import CAUSAL, OWN, PAIRS, build, tokens
from tests.modules.running.techniques import AVERAGING, FIRST, KEYS, LENGTHENING, REST, stand
from tests.modules.running.test_alone import close

torch.set_num_threads(1)
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "num_return_sequences": 2},
}
CASES = [
    *((family, name) for family in CAUSAL for name in FIRST if family not in OWN or name in (*LENGTHENING, *KEYS)),
    *zip(cycle(("llama", "gpt2", "mistral")), REST, strict=False),
]
NEW = 5


def generated(model: Any, given: dict[str, Tensor], **options: Any) -> Tensor:
    """Tokens that are generated, by the same random numbers each time."""
    torch.manual_seed(0)
    out: Tensor = model.generate(**given, max_new_tokens=NEW, min_new_tokens=NEW, **options)
    return out


@pytest.mark.parametrize(("family", "name"), CASES)
def test_every_cache_gives_what_none_gives(family: str, name: str) -> None:
    model = build(family)
    stand(model, name)
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, :3] = 0
    given = {"input_ids": tokens(2, 9), "attention_mask": mask}
    for way, options in WAYS.items():
        wanted = generated(model, given, use_cache=False, **options)
        for cache in ("dynamic", "static"):
            assert torch.equal(generated(model, given, cache_implementation=cache, **options), wanted), (way, cache)
    alone = generated(model, {"input_ids": given["input_ids"][1:, 3:]})
    assert torch.equal(generated(model, given)[1:, 9:], alone[:, 6:])


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("family", list(PAIRS))
def test_every_cache_of_a_pair_gives_what_none_gives(family: str, name: str, side: str) -> None:
    model = build(family)
    stand(model, name, side)
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    given = {"input_ids": tokens(2, 7), "attention_mask": mask}
    if family == "whisper":
        given = {"input_features": torch.randn(2, 8, 20, generator=torch.Generator().manual_seed(1))}
    for way, options in WAYS.items():
        wanted = generated(model, given, use_cache=False, **options)
        for cache in ("dynamic", "static"):
            assert torch.equal(generated(model, given, cache_implementation=cache, **options), wanted), (way, cache)


def caches(model: Any) -> dict[str, Any]:
    """An empty cache of each kind with room for nine tokens."""
    return {
        "dynamic": tf.DynamicCache(config=model.config),
        "static": tf.StaticCache(config=model.config, max_cache_len=9),
    }


@pytest.mark.parametrize(("family", "name"), CASES)
def test_steps_with_a_cache_give_the_whole(family: str, name: str) -> None:
    """In steps of three tokens; a cache that is emptied is as good as new."""
    model = build(family)
    stand(model, name)
    ids = tokens(2, 9)
    with torch.no_grad():
        whole = model(input_ids=ids)[0]
        for cache in caches(model).values():
            for _ in range(2):
                steps = [model(input_ids=ids[:, at : at + 3], past_key_values=cache).logits for at in range(0, 9, 3)]
                close(torch.cat(steps, 1), whole)
                cache.reset()


@pytest.mark.parametrize("name", LENGTHENING)
def test_a_cache_knows_its_rows(name: str) -> None:
    """Between two steps on one cache, the technique acts elsewhere and is disabled: what stands in the cache stays there."""
    model = build("gpt2")
    found = stand(model, name)
    ids = tokens(2, 8)
    with torch.no_grad():
        whole = model(input_ids=ids)[0]
        first = model(input_ids=ids[:, :5], use_cache=True)
        found.disable()
        plain = model(input_ids=ids[:, :5], use_cache=True)
        rest = model(input_ids=ids[:, 5:], past_key_values=first.past_key_values, attention_mask=torch.ones_like(ids))
        alone = model(input_ids=ids)[0]
        found.enable()
        others = model(input_ids=ids[:, 5:], past_key_values=plain.past_key_values, attention_mask=torch.ones_like(ids))
    close(rest[0], whole[:, 5:])
    close(others[0], alone[:, 5:])


@pytest.mark.parametrize("name", AVERAGING)
def test_a_mean_over_tokens_is_one_of_the_tokens_so_far(name: str) -> None:
    """The last of several steps reads the same mean as a step of all, where the layers before give the same: in the first layer."""
    model = build("llama", num_hidden_layers=1)
    found = stand(model, name)
    site = next(iter(found.module.runs))
    ids, seen = tokens(2, 8), []
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    run = found.module.runs[site][0]
    run.forward.register_forward_hook(lambda _m, args, out: seen.append((args, out)))
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
        first = model(input_ids=ids[:, :5], attention_mask=mask[:, :5], use_cache=True)
        model(input_ids=ids[:, 5:], attention_mask=mask, past_key_values=first.past_key_values)
    whole, last = (seen[at][1] for at in (0, 2))
    for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (whole, last)), strict=True):
        rows = one.shape[1] - 8
        close(other[:, -3:], one[:, rows + 5 :])


@pytest.mark.parametrize("attention", ["sdpa"])
@pytest.mark.parametrize("name", FIRST)
def test_generation_by_other_attention_functions(name: str, attention: str) -> None:
    wanted, here = build("mistral"), build("mistral", attention)
    given = {"input_ids": tokens(2, 9)}
    for model in (wanted, here):
        stand(model, name)
    for cache in ("dynamic", "static"):
        out = generated(here, given, cache_implementation=cache)
        assert torch.equal(out, generated(wanted, given, cache_implementation=cache))
