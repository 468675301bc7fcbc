"""What enters a look-up or a convolution: products are those with the rows written out, and the rows are not written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from peftref.core.problem import PeftrefError
from peftref.design.load import load, techniques
from peftref.design.technique import Technique
from peftref.modules.attach import attach
from peftref.modules.running.entering import Entering, Units, Windows
from peftref.modules.running.linear_map import FORMS
from peftref.modules.running.own import Own
from tests.hosts.embedded import HOSTS, embedded
from tests.small import small

torch.set_num_threads(1)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A convolution in one to three axes, of any stride, padding and dilation, and something that it can read."""
    axes = draw(st.integers(1, 3))
    several = st.tuples(*[st.integers(1, 3)] * axes)
    kernel, stride, dilation = draw(several), draw(several), draw(several)
    padding = draw(st.tuples(*[st.integers(0, 2)] * axes))
    groups = draw(st.integers(1, 3))
    channels, out = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    space = [(k - 1) * d + 1 + draw(st.integers(0, 3)) for k, d in zip(kernel, dilation, strict=True)]
    kinds: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    torch.manual_seed(draw(st.integers(0, 9)))
    return kinds[axes - 1](channels, out, kernel, stride, padding, dilation, groups).double(), torch.randn(
        2, channels, *space
    ).double()


@given(convolutions())
@settings(max_examples=60, deadline=None)
def test_a_convolution_is_its_matrix_on_its_windows(given: tuple[nn.Module, Tensor]) -> None:
    conv, whole = given
    form, windows = FORMS["convolution"], Windows(conv, whole)
    weight: Any = conv.weight
    matrix = form.matrix(weight, windows.rows().shape[-1])
    result = conv(whole)
    by_rows = F.linear(windows.rows(), matrix, conv.bias)  # type: ignore[arg-type]  # a tensor
    torch.testing.assert_close(form.put(conv, by_rows, result), result)
    torch.testing.assert_close(form.vectors(conv, whole, result), by_rows)
    torch.testing.assert_close(windows.product(matrix), windows.rows() @ matrix.T)
    torch.testing.assert_close(form.stored(matrix, weight), weight)


@pytest.mark.parametrize("training", [False, True])
def test_a_unit_vector_is_dropped_whole(training: bool) -> None:
    torch.manual_seed(0)
    units = Units(torch.randint(0, 5, (4, 50)), 5).dropout(0.5, training)
    lengths = units.rows().sum(-1)
    assert set(lengths.flatten().tolist()) == ({0.0, 2.0} if training else {1.0})
    matrix = torch.randn(3, 5)
    torch.testing.assert_close(F.linear(units, matrix), units.rows() @ matrix.T)
    for at in (torch.tensor([3, 0]), torch.tensor([[1, 1], [4, 2]])):
        torch.testing.assert_close(units.entries(at), units.rows()[..., at])


def standing(technique: Technique, slot: str) -> Technique | None:
    """A technique at a slot, where it has one insertion, at linear slots, and its sizes divide those of the slot."""
    try:
        return technique.moved(slot)
    except PeftrefError:
        return None


KINDS = [
    kind
    for kind in HOSTS
    if kind in ("a table", "a table, scaled by a buffer", "patches of an image", "every other frame")
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_technique_computes_what_it_computes_on_the_rows(kind: str) -> None:
    """With the rows as an ordinary tensor in place of what stands for them: same output, same gradients."""
    seen = []
    for technique in techniques():
        slot, model, _ = embedded(kind)
        moved = standing(small(technique), slot)
        try:
            found = attach(model, moved) if moved else None
        except PeftrefError:
            continue
        if found is None or not found.module.runs:
            continue
        for copied in found.module.copies:
            leaf = found.module.leaf(copied.name)
            if leaf.requires_grad:
                with torch.no_grad():
                    leaf.add_(0.1 * torch.randn_like(leaf))
        (name,) = found.module.runs
        site = next(site for site in found.modules.host.sites if site.name == name)
        module = model.get_submodule(site.path)
        torch.manual_seed(1)
        shape = {
            "embedding.tokens": (2, 5),
            "embedding.patches": (2, 3, 16, 16) if site.sizes["d_in"] == 192 else (2, 32, 9),
        }
        given = (
            torch.randint(0, 99, shape[site.slot]) if site.form == "table" else torch.randn(shape[site.slot]).double()
        )
        entering = FORMS[site.form].entering(module, given)
        assert isinstance(entering, Entering)
        own = Own(module)
        h = F.linear(entering.rows(), own.quantity("W", site), own.quantity("b", site))
        results = []
        for x in (entering, entering.rows()):
            model.zero_grad(set_to_none=True)
            out = found.module.runs[name][0](site, own, x=x, h=h)["h"]
            out.square().sum().backward()
            results.append((out, [each.grad for each in found.parameters()]))
        torch.testing.assert_close(
            results[0], results[1], rtol=1e-6, atol=1e-6, msg=lambda text, at=technique: f"{at.name}: {text}"
        )
        seen.append(technique.name)
    assert {"lora", "dora", "loha", "pissa", "vera", "hra", "svft"} <= set(seen), seen


class Largest(TorchDispatchMode):
    """The most numbers of any tensor that is made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's mode is not typed
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not func.is_view:
            self.most = max(self.most, result.numel())
        return result


def test_trained_rows_copy_no_table() -> None:
    """A technique that changes some rows of a table adds them to what is looked up, and gives these rows their gradients."""
    _, model, _ = embedded("a table", torch.float)
    table = nn.Embedding(5000, 32)
    model.set_input_embeddings(table)
    model.config.vocab_size = 5000
    found = attach(model, load("trainable_tokens", tokens=3, first=7), batch=16, length=64)
    (change,) = found.parameters()
    with torch.no_grad():
        change.normal_()
    ids = torch.randint(0, 20, (16, 64))
    with Largest() as seen:
        out = model.embed_tokens(ids)
        out.square().sum().backward()
    assert seen.most <= ids.numel() * 32
    whole = table.weight.detach().clone().requires_grad_()
    with torch.no_grad():
        whole[7:10] += change
    expected = F.embedding(ids, whole)
    expected.square().sum().backward()
    torch.testing.assert_close(out, expected)
    assert whole.grad is not None
    torch.testing.assert_close(change.grad, whole.grad[7:10])


def test_a_look_up_writes_out_no_unit_vectors() -> None:
    slot, model, _ = embedded("a table", torch.float)
    table = nn.Embedding(5000, 32)
    model.set_input_embeddings(table)
    model.config.vocab_size = 5000
    found = attach(model, load("lora", r=2, dropout=0.1).moved(slot), batch=16, length=128)
    ids = torch.randint(0, 5000, (16, 128))
    model.train()
    with Largest() as seen:
        out = model.embed_tokens(ids)
        out.sum().backward()
    assert seen.most <= max(ids.numel() * 32, 5000 * 32)
    assert all(each.grad is not None for each in found.parameters())


@pytest.mark.parametrize("kind", ["a table", "patches of an image"])
def test_it_compiles(kind: str) -> None:
    slot, model, batch = embedded(kind, torch.float)
    attach(model, load("lora", r=2).moved(slot))
    with torch.no_grad():
        plain = model(**batch)[0]
        compiled = torch.compile(model, backend="eager")(**batch)[0]
    torch.testing.assert_close(compiled, plain)
