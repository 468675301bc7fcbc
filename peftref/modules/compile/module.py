"""The torch modules of a technique on a host: parameters once each, and one generated module for every site."""

from __future__ import annotations

import linecache
import math
import sys
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.design.inits import INITS
from peftref.design.placement import Copy, Placement, copies, copy_name, numbers
from peftref.design.technique import Technique
from peftref.host.host import Host
from peftref.host.site import Site
from peftref.language.rewrite.cost import Load
from peftref.language.rewrite.share import read_by, together
from peftref.modules.compile.decompose import Decompositions
from peftref.modules.compile.functions import functions
from peftref.modules.compile.site_source import SitePlan, SiteSource, alone_plan, site_plan
from peftref.modules.running.bound import Bound
from peftref.modules.running.carry import Carry
from peftref.modules.running.flow import Context, Flow
from peftref.modules.running.positions import counted_rows
from peftref.modules.running.projection import Projection
from peftref.modules.running.run import Run
from peftref.modules.state.record import Fact


class Shared(SimpleNamespace):
    """Parameters that a site reads and another place owns: held, not registered, so that each is counted and saved once."""


class Inserted(nn.Module):
    """A technique on a host: every parameter once, in a tree by its dotted name, and a generated module for each site.

    Parameters of a site stand under the site's own name (`leaves.decoder.3.attention.query.A`), shared ones under the name of
    what shares them. The modules of the sites hold the same parameters and are not registered a second time. memory: what each
    procedure remembers from step to step; waiting: the procedures that have not begun, for want of data. counted: by stack, how many
    rows in front of the keys its tokens are counted after. trained: what was told of its training.
    """

    def __init__(
        self,
        technique: Technique,
        host: Host,
        placed: tuple[Placement, ...],
        *,
        name: str = "default",
        flow: Callable[[str], Flow] = lambda stack: Flow(),
        load: Load | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.technique = technique
        self.host = host
        self.placed = placed
        self.copies = copies(technique, placed)
        self.counted = {stack.name: counted_rows(technique, placed, stack.name) for stack in host.stacks}
        self.memory: list[dict[str, Tensor]] = [{} for _ in technique.procedures]
        self.waiting: tuple[str, ...] = ()
        self.seed = 0
        self.trained: dict[str, Fact] = {}
        self.leaves = nn.Module()
        for copy in self.copies:
            leaf = nn.Parameter(empty(copy), requires_grad=copy.leaf.trainable)
            _branch(self.leaves, copy.name).register_parameter(copy.leaf.name, leaf)
        self.runs: dict[str, list[Run]] = {}
        self.bounds: list[Bound] = []
        made = _classes(technique, load or Load())
        alone = [made.alone(placement) for placement in placed]
        asked = [() if one else made.products(placement) for placement, one in zip(placed, alone, strict=True)]
        shared_by = together([placement.site for placement in placed], asked)
        self.sources = [
            made.source(placement, products if shared else ())
            for placement, products, shared in zip(placed, asked, shared_by, strict=True)
        ]
        projections: dict[str, Projection] = {}
        for placement, source in zip(placed, self.sources, strict=True):
            if source.stacked:
                key = read_by(placement.site)
                leaves = [self._leaf_at(placement, name) for name in source.stacked]
                known = projections[key].leaves if key in projections else []
                projections[key] = Projection([*known, *leaves])
        for placement, source, one in zip(placed, self.sources, alone, strict=True):
            run = self._run(placement, source, made.load(source), projections, flow)
            if one is not None:
                run.alone = self._run(placement, one, made.load(one), projections, flow)
            run.stays = placement.insertion.stays
            self.runs.setdefault(placement.site.name, []).append(run)

    def _run(
        self,
        placement: Placement,
        source: SiteSource,
        cls: type[nn.Module],
        projections: Mapping[str, Projection],
        flow: Callable[[str], Flow],
    ) -> Run:
        site = placement.site
        given: dict[str, Any] = {leaf: self._leaf_at(placement, leaf) for leaf in source.leaves}
        for leaf in source.stacked:
            given[f"project_{leaf}"] = projections[read_by(site)].part(given[leaf])
        if source.mixes:
            given["context"] = Context(flow(site.stack), f"{self.name}.{site.name}.{len(self.at(site))}")
        places = tuple(self._place(placement, leaf) for leaf in source.leaves)
        made = cls(**given)
        carry = self._carry(placement, flow)
        return Run(made, source.reads, source.gives, carry=carry, bound=Bound(made, places, self.bounds))

    def _carry(self, placement: Placement, flow: Callable[[str], Flow]) -> Carry | None:
        effect, site = placement.effect, placement.site
        if not effect.carries:
            return None
        sizes = {k: v for k, v in numbers(site, self.technique.settings).items() if isinstance(v, int)}
        shapes = {name: effect.scope.entries[name].kind.evaluate(sizes) for name in effect.carries}
        return Carry(flow(site.stack), self.name, shapes)

    def _leaf_at(self, placement: Placement, name: str) -> nn.Parameter:
        return self.leaf(copy_name(placement.insertion.leaves[name], placement.site))

    def _place(self, placement: Placement, name: str) -> tuple[nn.Module, str]:
        path, _, last = copy_name(placement.insertion.leaves[name], placement.site).rpartition(".")
        return self.leaves.get_submodule(path), last

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
                run.train(mode)
        return self


class _Classes:
    """The generated classes of a technique, each made once."""

    def __init__(self, technique: Technique, load: Load) -> None:
        self.technique = technique
        self.batch = load
        self.plans: dict[tuple[Any, ...], SitePlan] = {}
        self.sources: dict[tuple[Any, ...], SiteSource] = {}
        self.lonely: dict[tuple[Any, ...], SiteSource | None] = {}
        self.classes: dict[str, type[nn.Module]] = {}

    def products(self, placement: Placement) -> tuple[str, ...]:
        """The leaves of a placement whose product with x can be made together with those of other sites."""
        return self._plan(placement).products

    def source(self, placement: Placement, stacked: tuple[str, ...]) -> SiteSource:
        """The source for a placement. stacked: the leaves whose product with x is made elsewhere."""
        key = (*self._key(placement), stacked)
        if key not in self.sources:
            self.sources[key] = self._plan(placement).source(stacked)
        return self.sources[key]

    def alone(self, placement: Placement) -> SiteSource | None:
        """The source for a placement where nothing else acts at its site, if that form is cheaper."""
        key = self._key(placement)
        if key not in self.lonely:
            plan = alone_plan(self.technique, placement, load=self.batch)
            self.lonely[key] = None if plan is None else plan.source()
        return self.lonely[key]

    def _plan(self, placement: Placement) -> SitePlan:
        key = self._key(placement)
        if key not in self.plans:
            self.plans[key] = site_plan(self.technique, placement, load=self.batch)
        return self.plans[key]

    def _key(self, placement: Placement) -> tuple[Any, ...]:
        """What the source of a placement follows from."""
        site = placement.site
        sizes = tuple(sorted(numbers(site, self.technique.settings).items()))
        return placement.insertion, site.slot, sizes, site.lacks, site.whole

    def load(self, source: SiteSource) -> type[nn.Module]:
        """The class of a source."""
        if source.text not in self.classes:
            self.classes[source.text] = load_class(source)
        return self.classes[source.text]


@lru_cache(maxsize=512)
def _classes(technique: Technique, load: Load) -> _Classes:
    """The classes of a technique at a load: on a second host of the same sizes they are there already."""
    return _Classes(technique, load)


def _branch(root: nn.Module, name: str) -> nn.Module:
    """The module that owns the leaf of a dotted name; the way to it is made where it is missing."""
    for part in name.split(".")[:-1]:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root


def load_class(source: SiteSource) -> type[nn.Module]:
    """The class that generated source defines, in a module of its own, which `torch.compile` looks up by its name.

    The source stays readable to tracebacks and `inspect.getsource`.
    """
    mark = f"{zlib.crc32(source.text.encode()):08x}"
    file = f"<peftref {source.name} {mark}>"
    linecache.cache[file] = (len(source.text), None, source.text.splitlines(True), file)
    made = ModuleType(f"peftref.generated.{source.name}_{mark}")
    vars(made).update({"torch": torch, "nn": nn, "F": F, "op": functions(), "Shared": Shared})
    exec(
        compile(source.text, file, "exec"), vars(made)
    )  # generated from a checked tree: names are identifiers, nothing of a user's text
    sys.modules[made.__name__] = made
    cls: type[nn.Module] = vars(made)[source.name]
    return cls


@torch.no_grad()
def initialise(
    parameter: Tensor,
    copy: Copy,
    settings: Mapping[str, object],
    host: Mapping[str, Tensor],
    seed: int,
    made: Decompositions | None = None,
) -> None:
    """Fills a leaf by its init, from a generator of its own, so that values depend on seed and name only, not on the order.

    made: decompositions of the host's weights, which leaves that begin together share.
    """
    row = INITS[copy.leaf.init]
    values = dict(copy.leaf.init_args)
    holes = {name: _hole(value, settings) for name, value in values.items()}
    space: dict[str, Any] = {"torch": torch, "nn": nn, "math": math, "t": empty(copy)}
    space |= {f"host_{name.replace('.', '_')}": tensor.detach() for name, tensor in host.items()}
    space["svd"] = (made or Decompositions()).svd
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(copy.name.encode(), seed % 2**32))  # a CPU's generator takes 32 bits of it
        try:
            exec(row.source("t", holes), space)  # the text of the init table, with numbers and names of quantities
        except RuntimeError as error:
            text = f"the init {row.name} has no {list(copy.shape)} numbers to give to {copy.name}"
            note = f"torch said: {str(error).splitlines()[0]}"
            raise fail("init-size", text, notes=(note,), hint="choose sizes that this host has room for") from None
    parameter.copy_(space["t"])


def empty(copy: Copy) -> Tensor:
    """A leaf without values yet."""
    return torch.empty(copy.shape, dtype=torch.int64 if copy.leaf.whole else torch.float32)


def _hole(value: object, settings: Mapping[str, object]) -> str:
    if isinstance(value, str):
        return repr(settings[value]) if value in settings else f"host_{value.replace('.', '_')}"
    return repr(value)
