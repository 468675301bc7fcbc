"""The torch modules of a technique on a host: parameters once each, and one generated module for every site."""

from __future__ import annotations

import linecache
import math
import zlib
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peftref.compile import functions as op
from peftref.compile.flow import Context, Flow
from peftref.compile.module_name import class_name
from peftref.compile.run import Run
from peftref.compile.site_source import SiteSource, site_source
from peftref.design.inits import INITS
from peftref.design.placement import Copy, Placement, copies, copy_name, numbers
from peftref.design.technique import Technique
from peftref.host.host import Host
from peftref.host.site import Site


class Shared(SimpleNamespace):
    """Parameters that a site reads and another place owns: held, not registered, so that each is counted and saved once."""


class Inserted(nn.Module):
    """A technique on a host: every parameter once, in a tree by its dotted name, and a generated module for each site.

    Parameters of a site stand under the site's own name (`leaves.decoder.3.attention.query.A`), shared ones under the name of
    what shares them. The modules of the sites hold the same parameters and are not registered a second time.
    """

    def __init__(
        self,
        technique: Technique,
        host: Host,
        placed: tuple[Placement, ...],
        *,
        name: str = "default",
        flow: Callable[[str], Flow] = lambda stack: Flow(),
    ) -> None:
        super().__init__()
        self.name = name
        self.technique = technique
        self.host = host
        self.placed = placed
        self.copies = copies(technique, placed)
        self.leaves = nn.Module()
        for copy in self.copies:
            leaf = nn.Parameter(torch.empty(copy.shape), requires_grad=copy.leaf.trainable)
            _branch(self.leaves, copy.name).register_parameter(copy.leaf.name, leaf)
        classes: dict[tuple[Any, ...], tuple[SiteSource, type[nn.Module]]] = {}
        self.sources: list[SiteSource] = []
        self.runs: dict[str, list[Run]] = {}
        for placement in placed:
            self._place(placement, classes, flow)

    def _place(
        self,
        placement: Placement,
        classes: dict[tuple[Any, ...], tuple[SiteSource, type[nn.Module]]],
        flow: Callable[[str], Flow],
    ) -> None:
        site = placement.site
        values = numbers(site, self.technique.settings)
        key = (id(placement.insertion), site.slot, tuple(sorted(values.items())), site.lacks)
        if key not in classes:
            title = class_name(self.technique.name, site.slot)
            source = site_source(title, placement.insertion, placement.effect, values, lacks=site.lacks)
            classes[key] = (source, load_class(source))
        source, cls = classes[key]
        given: dict[str, Any] = {
            leaf: self.leaf(copy_name(placement.insertion.leaves[leaf], site)) for leaf in source.leaves
        }
        runs = self.runs.setdefault(site.name, [])
        if source.mixes:
            given["context"] = Context(flow(site.stack), f"{self.name}.{site.name}.{len(runs)}")
        first = next((leaf for leaf in given.values() if isinstance(leaf, Tensor)), None)
        runs.append(Run(cls(**given), source.reads, source.gives, first))
        self.sources.append(source)

    def leaf(self, name: str) -> nn.Parameter:
        """The parameter of a dotted name."""
        return self.leaves.get_parameter(name)

    def at(self, site: Site) -> list[Run]:
        """The runs at a site, one for each insertion that stands there."""
        return self.runs.get(site.name, [])

    def train(self, mode: bool = True) -> Inserted:
        """Sets training mode, on the site modules as well."""
        super().train(mode)
        for runs in self.runs.values():
            for run in runs:
                run.forward.train(mode)
        return self


def _branch(root: nn.Module, name: str) -> nn.Module:
    """The module that owns the leaf of a dotted name; the way to it is made where it is missing."""
    for part in name.split(".")[:-1]:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root


def load_class(source: SiteSource) -> type[nn.Module]:
    """The class that generated source defines; the source stays readable to tracebacks and `inspect.getsource`."""
    file = f"<peftref {source.name} {zlib.crc32(source.text.encode()):08x}>"
    linecache.cache[file] = (len(source.text), None, source.text.splitlines(True), file)
    space: dict[str, Any] = {
        "torch": torch,
        "nn": nn,
        "F": F,
        "op": op,
        "Shared": Shared,
        "__name__": "peftref.generated",
    }
    exec(
        compile(source.text, file, "exec"), space
    )  # generated from a checked tree: names are identifiers, nothing of a user's text
    cls: type[nn.Module] = space[source.name]
    return cls


@torch.no_grad()
def initialise(
    parameter: Tensor, copy: Copy, settings: Mapping[str, object], host: Mapping[str, Tensor], seed: int
) -> None:
    """Fills a leaf by its init, from a generator of its own, so that values depend on seed and name only, not on the order."""
    row = INITS[copy.leaf.init]
    values = dict(copy.leaf.init_args)
    holes = {name: _hole(value, settings) for name, value in values.items()}
    space: dict[str, Any] = {"torch": torch, "nn": nn, "math": math, "t": torch.empty(copy.shape)}
    space |= {f"host_{name.replace('.', '_')}": tensor.detach().cpu() for name, tensor in host.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((seed << 32) + zlib.crc32(copy.name.encode()))
        exec(
            row.torch.format(t="t", **holes), space
        )  # the text of the init table, with numbers and names of quantities
    parameter.copy_(space["t"])


def _hole(value: object, settings: Mapping[str, object]) -> str:
    if isinstance(value, str):
        return repr(settings[value]) if value in settings else f"host_{value.replace('.', '_')}"
    return repr(value)
