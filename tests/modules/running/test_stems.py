"""Convolutions before the layers: several, one on the other, and in groups."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers as tf
from torch import Tensor

from peftref.analyse.count import count
from peftref.core.problem import PeftrefError
from peftref.design.load import load, read
from peftref.host.fold import fold, unfold
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import attach
from peftref.modules.restore import restore
from tests.hosts.embedded import embedded

FOUR = "frames, one convolution on the other"


def parakeet() -> tuple[tf.PreTrainedModel, dict[str, Tensor]]:
    """A host with convolutions in groups: one in every other position of its stem, of one channel each."""
    config = tf.ParakeetEncoderConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, subsampling_conv_channels=8,
        num_mel_bins=16, subsampling_factor=4,
    )  # fmt: skip
    torch.manual_seed(0)
    model: tf.PreTrainedModel = tf.AutoModel.from_config(config).eval().double()
    return model, {"input_features": torch.randn(2, 32, 16, generator=torch.Generator().manual_seed(1)).double()}


def test_every_convolution_is_a_site_by_its_depth() -> None:
    _, model, _ = embedded(FOUR)
    host = resolve(model)
    stems = [site for site in host.sites if site.slot == "embedding.stem"]
    assert [site.layer for site in stems] == [0, 1]
    assert [site.path for site in stems] == [f"feature_extractor.conv_layers.{i}.conv" for i in range(2)]
    assert [site.sizes["d_in"] for site in stems] == [10, 48]
    assert not any(site.within for site in stems)
    again = unfold(fold(host), host.name, host.model_type)
    assert again.sites == host.sites


def test_a_deep_stem_has_more_depths_than_the_stack_has_layers() -> None:
    config = tf.Wav2Vec2Config(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, conv_dim=(16,) * 5,
        conv_stride=(5, 2, 2, 2, 2), conv_kernel=(10, 3, 3, 3, 2), num_feat_extract_layers=5, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    lora = load("lora", r=2).moved("embedding.stem")
    widths = [10, 48, 48, 48, 32]
    assert count(lora, config).trained == sum(2 * (width + 16) for width in widths)
    text = lora.to_yaml().replace("    leaves:", "    layers: {last: 2}\n    leaves:")
    assert count(read(text), config).trained == 2 * (48 + 16) + 2 * (32 + 16)


def test_a_leaf_shared_by_the_layer_is_no_leaf_of_the_stem() -> None:
    _, model, _ = embedded(FOUR)
    text = """{name: mine, title: Mine, insert: [{at: [embedding.stem, attention.query], leaves:
        {l: {shape: [d_out], init: ones, scope: layer}}, equation: "h' = l * h"}]}"""
    found = attach(model, read(text))
    assert {copy.name for copy in found.module.copies} == {
        "encoder.0.embedding.stem.l", "encoder.1.embedding.stem.l", "encoder.0.l", "encoder.1.l",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["lora", "dora", "loha", "ia3"])
def test_a_stem_is_trained_merged_and_restored(name: str, tmp_path: Path) -> None:
    slot, model, batch = embedded(FOUR)
    technique = load(name) if name != "ia3" else read("{name: scale, title: Scale, insert: [{at: embedding.stem, leaves: {l: {shape: [d_out], init: ones}}, equation: \"h' = l * h\"}]}")  # fmt: skip
    with torch.no_grad():
        base = model(**batch)[0]
    found = attach(model, technique.moved(slot))
    assert len(found.module.runs) == 2
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model(**batch)[0].square().sum().backward()
    assert all(each.grad is not None and each.grad.abs().max() > 0 for each in found.parameters())
    with torch.no_grad():
        out = model(**batch)[0]
        assert (out - base).abs().max() > 1e-3
        found.merge()
        torch.testing.assert_close(model(**batch)[0], out, rtol=1e-6, atol=1e-8)
        found.unmerge()
        folder = found.save(tmp_path / "module")
        found.detach()
        assert torch.equal(model(**batch)[0], base)
        restore(model, folder)
        torch.testing.assert_close(model(**batch)[0], out)


def test_a_convolution_in_groups_is_a_block_diagonal_map_on_whole_windows() -> None:
    model, batch = parakeet()
    host = resolve(model)
    site = next(site for site in host.sites if site.path == "subsampling.layers.2")
    conv = model.get_submodule(site.path)
    assert conv.groups == 8
    assert (site.slot, site.layer, site.sizes["d_in"], site.sizes["d_out"]) == ("embedding.stem", 1, 72, 8)
    found = attach(model, load("lora", r=3, alpha=6).moved("embedding.stem"))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.normal_(std=0.3)
    given = torch.randn(2, 8, 9, 7).double()
    a, b = (found.module.leaf(f"encoder.1.embedding.stem.{name}").detach().double() for name in "AB")
    with torch.no_grad():
        kernels = 2 * (b @ a).reshape(8, 8, *conv.kernel_size)
        added = F.conv2d(given, kernels, None, conv.stride, conv.padding)
        found.disable()
        alone = conv(given)
        found.enable()
        torch.testing.assert_close(conv(given), alone + added)
    model(**batch)[0].square().sum().backward()
    assert all(each.grad is not None for each in found.parameters())
    with pytest.raises(PeftrefError, match="mixes-groups"):
        found.merge()
    assert not found.mergeable
    assert not found.merged


@pytest.mark.parametrize(
    "equation",
    ["h' = l * h", "h' = l * h + l", "W' = (1 + l) * unit_rows(W)", "W' = W + block_diag(S)", "h' = h + block_diag(S) @ x", "b' = b + l"],
)  # fmt: skip
def test_what_keeps_the_groups_apart_merges(equation: str) -> None:
    """Rows scaled, and blocks of each group's own, as the convolution itself has them."""
    model, batch = parakeet()
    leaf = (
        "S: {shape: [8, d_out / 8, d_in / 8], init: {normal: 0.3}}"
        if "S" in equation
        else "l: {shape: [d_out], init: {normal: 0.3}}"
    )
    text = f'{{name: mine, title: Mine, insert: [{{at: embedding.stem, layers: [1], leaves: {{{leaf}}}, equation: "{equation}"}}]}}'
    found = attach(model, read(text.replace("unit_rows(W)", "W / norm_rows(W)")))
    conv = model.get_submodule("subsampling.layers.2")
    before = conv.weight.detach().clone()
    with torch.no_grad():
        out = model(**batch)[0]
        found.merge()
        torch.testing.assert_close(model(**batch)[0], out, rtol=1e-6, atol=1e-8)
        assert conv.weight.shape == before.shape
        found.unmerge()
    assert torch.equal(conv.weight, before)


def test_a_convolution_that_adds_positions_makes_no_token_vectors() -> None:
    config = tf.Data2VecAudioConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, conv_dim=(16,) * 2,
        conv_stride=(5, 2), conv_kernel=(10, 3), num_feat_extract_layers=2, num_conv_pos_embeddings=2,
        conv_pos_kernel_size=3, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    found = [site.path for site in resolve(config).sites if site.slot in ("embedding.stem", "embedding.patches")]
    assert found == [*(f"feature_extractor.conv_layers.{i}.conv" for i in range(2)), "feature_projection.projection"]
