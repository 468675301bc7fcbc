"""A technique: frozen data that a YAML file holds, with everything that the equation needs said once."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Field

from peftref.core.frozen_map import FrozenMap
from peftref.core.problem import PeftrefError, Place, Problem, nearest
from peftref.design.canonical import canonical_yaml
from peftref.design.fields import (
    Equation,
    Line,
    Setting,
    SettingField,
    Shape,
    Slots,
    TechniqueName,
    Title,
    TuneField,
)
from peftref.design.fixed import Fixed, Identifier
from peftref.design.init_call import InitField
from peftref.design.layers import Layers, LayersField
from peftref.design.peer import Peer as Peer
from peftref.host.architecture import WORDS, Frozen, slots_of

_TOLD = ("title", "about", "source", "peers", "note")
"""Fields that change nothing of what a technique computes."""

Factor = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] | Identifier
Said = Annotated[bool, Field(strict=True)] | Identifier
LeafScope = Literal["site", "layer", "slot", "design"]

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Source(Frozen):
    """Where a technique comes from."""

    arxiv: str | None = Field(None, description='arXiv number in quotes, "2106.09685"', pattern=r"^[\w.-]+(/\d{7})?$")
    url: str | None = Field(None, description="address of the paper or of the code", pattern=r"^https?://\S+$")
    year: int | None = Field(None, description="year of the first publication", ge=1900, le=2200, strict=True)
    note: Line | None = Field(None, description="which part or variant of the source, in one line")


class Leaf(Frozen):
    """A tensor that a technique adds to the host."""

    shape: Shape = Field(description="sizes of its axes: numbers, settings, sizes of the host; [] is a single number")
    init: InitField = Field(description="how it begins: zeros, ones, {normal: 0.02}, {copy: W} ...")
    frozen: bool = Field(False, description="true where it is never trained", strict=True)
    scope: LeafScope = Field("site", description="what shares one copy: the site, layer, slot or the whole design")
    lr: Factor = Field(1.0, description="factor on the learning rate: a number or a setting")
    fit: bool = Field(
        False,
        description="true where a frozen copy is as large as its largest site needs, and others read its leading part",
        strict=True,
    )

    def words(self) -> tuple[str, ...]:
        """The names that its shape reads, in their order.

        >>> Leaf(shape=["d_in // n", "r"], init="zeros").words()
        ('d_in', 'n', 'r')
        """
        return tuple(word for size in self.shape for word in _WORD.findall(size))


class Insert(Frozen):
    """One insertion: where it goes, the leaves that it adds, and its equation."""

    at: Slots = Field(
        description="the slots: attention.query, ffn, embedding ...; a stack may stand in front; attention is self and cross attention, "
        "self_attention and cross_attention one of them",
        min_length=1,
    )
    layers: LayersField = Field(
        Layers(), description="which layers: all, a list (negative from the end), {first: n}, {last: n}, {every: n}"
    )
    stacks: tuple[str, ...] | None = Field(
        None, description="which stacks of the host, all where left out; last: the one that runs last", min_length=1
    )
    optional: bool = Field(False, description="true where a host without its slots does without it", strict=True)
    counted: Said = Field(
        False,
        description="true, or the setting that says it, where tokens are counted after what it puts in front of the keys, "
        "as a cache of the past has it",
    )
    stays: Said = Field(
        False,
        description="true, or the setting that says it, where what it puts in front of the sequence is still there when the heads "
        "and poolers of the host read it",
    )
    leaves: Fixed[Leaf] = Field(FrozenMap(), description="the tensors that it adds, by the names in the equation")
    equation: Equation = Field(description="statements; a primed name on the left is the quantity that is replaced")


class Procedure(Frozen):
    """A named hook of the engine, for what no equation can say."""

    name: Identifier = Field(description="name of the procedure, a row of the table in peftref/design/procedures.py")
    settings: Fixed[SettingField] = Field(
        FrozenMap(), description="what it is told: names of leaves, numbers, words, or names of settings that hold them"
    )


class Technique(Frozen):
    """A parameter-efficient finetuning technique.

    Equal techniques are equal objects; all of it can be hashed and none of it changed.

    >>> mine = Technique(name="mine", title="Mine", insert=[{"at": "attention.key", "equation": "h' = 2 * h"}])
    >>> mine.insert[0].at
    ('attention.key',)
    """

    name: TechniqueName = Field(description="small letters, digits and _; the file's name too")
    title: Title = Field(description="the name in tables and figures")
    about: Line = Field("", description="what it does, in one line")
    source: Source | None = Field(None, description="where it was published")
    settings: Fixed[SettingField] = Field(FrozenMap(), description="numbers, texts and switches, with their defaults")
    carries: Fixed[Shape] = Field(
        FrozenMap(),
        description="what equations carry from layer to layer beside the stream: its shape for each token; zeros at first",
    )
    insert: tuple[Insert, ...] = Field((), description="the insertions")
    tune: TuneField = Field(
        "none", description="the host's own parameters that are trained: none, all, or of some slots"
    )
    budget: Identifier | None = Field(
        None, description="the setting that a parameter budget turns; else the first that is a size"
    )
    mutates: Literal["host"] | None = Field(None, description="host where an init changes the host's own weights")
    procedures: tuple[Procedure, ...] = Field(
        (), description="what no equation says: ranks allocated, leaves that begin from data ..."
    )
    peers: Fixed[Peer] = Field(FrozenMap(), description="how peer libraries call it, by library")
    note: str | None = Field(None, description="anything else worth knowing")

    def size_settings(self) -> tuple[str, ...]:
        """The settings that are sizes: of a leaf, or a number of layers; in the order of their first use."""
        used = [word for insert in self.insert for leaf in insert.leaves.values() for word in leaf.words()]
        used += [word for shape in self.carries.values() for size in shape for word in _WORD.findall(size)]
        used += [word for insert in self.insert for word in sorted(insert.layers.settings())]
        return tuple(dict.fromkeys(word for word in used if word in self.settings))

    def budget_setting(self) -> str | None:
        """The setting that a parameter budget turns, or None where no leaf has a size to turn."""
        if self.budget is not None:
            return self.budget
        shapes = [word for insert in self.insert for leaf in insert.leaves.values() for word in leaf.words()]
        return next((word for word in shapes if word in self.settings), None)

    def with_settings(self, /, **settings: Setting) -> Technique:
        """A copy with some settings changed.

        Raises PeftrefError with all of: `unknown-setting`, `setting-type`, `setting-size` (a size stays a whole number).

        >>> mine = Technique(name="mine", title="Mine", settings={"r": 8, "alpha": 16.0})
        >>> dict(mine.with_settings(r=4, alpha=8).settings)
        {'r': 4, 'alpha': 8.0}
        """
        sizes = self.size_settings()
        changed: dict[str, Setting] = dict(self.settings)
        problems: list[Problem] = []
        for name, value in settings.items():
            if name not in self.settings:
                notes = (f"it has: {', '.join(self.settings)}",) if self.settings else ("it has no settings",)
                text = f"{self.name} has no setting {name}"
                problems.append(Problem("unknown-setting", text, None, notes, nearest(name, self.settings)))
                continue
            problem = type_problem(name, self.settings[name], value) or (
                size_problem(name, value) if name in sizes else None
            )
            if problem:
                problems.append(problem)
            else:
                changed[name] = float(value) if type(self.settings[name]) is float else value
        if problems:
            raise PeftrefError(problems)
        return self.model_copy(update={"settings": FrozenMap(changed)})

    def moved(self, *at: str) -> Technique:
        """A copy that stands at other slots; its equation is checked against them when it is put on a host.

        Raises PeftrefError `unknown-slot` with every slot that there is not, `move-several` where it has not one insertion.

        >>> mine = Technique(name="mine", title="Mine", insert=[{"at": "attention.key", "equation": "h' = 2 * h"}])
        >>> mine.moved("embedding.tokens", "head").insert[0].at
        ('embedding.tokens', 'head')
        """
        problems = [
            Problem(
                "unknown-slot", f"there is no slot {slot}", hint=nearest(slot, WORDS) or "peftref slots draws them all"
            )
            for slot in at
            if not slots_of(slot)
        ]
        if len(self.insert) != 1:
            text = f"{self.name} has {len(self.insert)} insertions, and only one alone can be moved"
            problems.append(Problem("move-several", text, hint="write the slots of each into a file of your own"))
        if problems:
            raise PeftrefError(problems)
        return self.model_copy(update={"insert": (self.insert[0].model_copy(update={"at": at}),)})

    def to_yaml(self, schema: str = "../../schemas/technique.json") -> str:
        """The technique as canonical YAML, with the line that tells editors its schema; reads back as an equal technique."""
        return canonical_yaml(self.plain(), schema)

    def plain(self) -> dict[str, Any]:
        """The technique as plain data, in the order of its fields, defaults left out."""
        return self.model_dump(exclude_defaults=True)

    def essence(self) -> dict[str, Any]:
        """The technique as plain data without what only tells of it: equal where two compute and begin alike.

        >>> mine = Technique(name="mine", title="Mine", insert=[{"at": "attention.key", "equation": "h' = 2 * h"}])
        >>> sorted(mine.essence())
        ['insert', 'name']
        """
        return {name: value for name, value in self.plain().items() if name not in _TOLD}


def type_problem(name: str, default: Setting, value: object) -> Problem | None:
    """What is wrong with the type of a setting's value: a number for a number, and the same type for all else.

    >>> print(type_problem("alpha", 16, "many").render())
    the setting alpha is a number, not 'many' [setting-type]
    """
    if isinstance(default, bool | str):
        if type(value) is type(default):
            return None
        wanted = "a text" if isinstance(default, str) else "true or false"
    else:
        wanted = "a number"
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return None
    return Problem("setting-type", f"the setting {name} is {wanted}, not {value!r}")


def size_problem(name: str, value: object, place: Place | None = None) -> Problem | None:
    """What is wrong with a setting that is used as a size, or None.

    >>> print(size_problem("r", 0).render())
    the setting r is a size, and must be a whole number of at least 1, not 0 [setting-size]
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return None
    text = f"the setting {name} is a size, and must be a whole number of at least 1, not {value!r}"
    return Problem("setting-size", text, place)
