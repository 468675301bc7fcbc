"""The reference architecture: the standard components of a transformer, their slots, and what an interaction may read and replace.

It is data (a pydantic model), so that its JSON schema, its drawing, the checker's environment and the typology's workspace all
read the same object. Sizes are texts in the host's size symbols; `per` says which implicit axes a quantity carries.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Per = Literal["none", "token"]
Kind = Literal["linear", "sublayer", "activation", "norm", "core", "sequence"]
Form = Literal["matrix", "transposed", "table", "convolution", "cache"]
"""How a linear slot's weight is stored: [d_out, d_in], [d_in, d_out], one row for each token id, or a convolution's kernels.

`cache`: attention that a model computes itself, which is reached through its cache alone.
"""

SIZES: dict[str, str] = {
    "d_in": "width of what the slot reads",
    "d_out": "width of what the slot gives",
    "d_model": "width of the residual stream of the stack",
    "d_ff": "width of ffn.hidden",
    "n_heads": "query heads",
    "n_kv_heads": "key and value heads",
    "d_head": "width of one query or key head",
    "d_value": "width of one value head",
    "n_layers": "layers of the stack",
    "vocab": "rows of the embedding matrix",
}


class Frozen(BaseModel):
    """A frozen pydantic model that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantity(Frozen):
    """Something that an equation may read at a slot, and replace when `replaceable`."""

    name: str
    shape: tuple[str, ...]
    per: Per
    about: str
    replaceable: bool = True
    optional: bool = False


class SlotKind(Frozen):
    """A kind of slot: the quantities that every slot of this kind offers."""

    name: Kind
    about: str
    quantities: tuple[Quantity, ...]


class Slot(Frozen):
    """A place in the reference architecture, by role, with the sizes that its role fixes.

    lookup: its x is a unit vector, so that a product with it is a column.
    """

    name: str
    kind: Kind
    component: str
    about: str
    sizes: dict[str, str] = {}
    lookup: bool = False


class Component(Frozen):
    """A standard component of the transformer, in the order in which data flows."""

    name: str
    about: str


class Architecture(Frozen):
    """The whole reference architecture."""

    components: tuple[Component, ...]
    kinds: tuple[SlotKind, ...]
    slots: tuple[Slot, ...]

    def slot(self, name: str) -> Slot:
        """The slot of a name; KeyError where there is none."""
        return _SLOTS[name]

    def kind(self, name: str) -> SlotKind:
        """The kind of slot of a name; KeyError where there is none."""
        return next(kind for kind in self.kinds if kind.name == name)

    def names(self) -> tuple[str, ...]:
        """All slot names, in the order in which data flows."""
        return tuple(slot.name for slot in self.slots)


def _q(name: str, shape: str, per: Per, about: str, *, replaceable: bool = True, optional: bool = False) -> Quantity:
    return Quantity(
        name=name, shape=tuple(shape.split()), per=per, about=about, replaceable=replaceable, optional=optional
    )


KINDS = (
    SlotKind(
        name="linear",
        about="a linear map; for a fused projection, its own rows of it",
        quantities=(
            _q("x", "d_in", "token", "input"),
            _q("W", "d_out d_in", "none", "weight"),
            _q("b", "d_out", "none", "bias, zero where the host has none", optional=True),
            _q("h", "d_out", "token", "output, h = W @ x + b"),
        ),
    ),
    SlotKind(
        name="sublayer",
        about="a whole sublayer: attention, cross attention, feed-forward, or the layer",
        quantities=(
            _q("x", "d_model", "token", "input of the sublayer", replaceable=False),
            _q("h", "d_model", "token", "output; for attention and ffn, before the residual sum"),
            _q("res", "d_model", "token", "the stream that h is added to", replaceable=False),
            _q("out", "d_model", "token", "res + h, normalised where the host does so", replaceable=False),
        ),
    ),
    SlotKind(
        name="activation",
        about="a hidden activation on its way to the next linear map",
        quantities=(_q("h", "d_ff", "token", "what ffn.down reads"),),
    ),
    SlotKind(
        name="norm",
        about="a normalisation with a gain, and a shift where the host has one",
        quantities=(
            _q("x", "d_model", "token", "input", replaceable=False),
            _q("g", "d_model", "none", "gain"),
            _q("b", "d_model", "none", "shift, zero where the host has none", optional=True),
            _q("h", "d_model", "token", "output"),
        ),
    ),
    SlotKind(
        name="core",
        about="attention itself, between its projections; q, k and v as the attention function receives them",
        quantities=(
            _q("x", "d_model", "token", "input of the sublayer, of which the queries are made", replaceable=False),
            _q("q", "n_heads d_head", "token", "queries"),
            _q("k", "n_kv_heads d_head", "token", "keys"),
            _q("v", "n_kv_heads d_value", "token", "values"),
            _q("o", "n_heads d_value", "token", "output, o = attend(q, k, v)"),
        ),
    ),
    SlotKind(
        name="sequence",
        about="the token vectors that enter a stack",
        quantities=(
            _q("h", "d_model", "token", "token vectors"),
            _q("E", "vocab d_model", "none", "embedding matrix, which only text has", optional=True),
        ),
    ),
)

_QUERY = {"d_in": "d_model", "d_out": "n_heads * d_head"}
_KEY = {"d_in": "d_model", "d_out": "n_kv_heads * d_head"}
_VALUE = {"d_in": "d_model", "d_out": "n_kv_heads * d_value"}
_OUTPUT = {"d_in": "n_heads * d_value", "d_out": "d_model"}


def _attention(name: str, about: str) -> tuple[Slot, ...]:
    return (
        Slot(name=f"{name}.norm", kind="norm", component=name, about=f"normalisation of the {about} sublayer"),
        Slot(name=f"{name}.query", kind="linear", component=name, about=f"query projection of {about}", sizes=_QUERY),
        Slot(name=f"{name}.key", kind="linear", component=name, about=f"key projection of {about}", sizes=_KEY),
        Slot(name=f"{name}.value", kind="linear", component=name, about=f"value projection of {about}", sizes=_VALUE),
        Slot(name=f"{name}.core", kind="core", component=name, about=f"{about} itself"),
        Slot(
            name=f"{name}.output", kind="linear", component=name, about=f"output projection of {about}", sizes=_OUTPUT
        ),
        Slot(name=f"{name}.post_norm", kind="norm", component=name, about=f"second norm of the {about} sublayer"),
        Slot(name=name, kind="sublayer", component=name, about=f"the {about} sublayer"),
    )


ARCHITECTURE = Architecture(
    components=(
        Component(name="embedding", about="turns the input into token vectors"),
        Component(name="attention", about="mixes token vectors within the sequence"),
        Component(name="cross_attention", about="reads another stack's sequence"),
        Component(name="ffn", about="maps each token vector by itself"),
        Component(name="layer", about="one layer of a stack: its sublayers and residual sums"),
        Component(name="final", about="what follows the last layer of a stack"),
        Component(name="head", about="maps token vectors to the vocabulary or to classes"),
    ),
    kinds=KINDS,
    slots=(
        Slot(
            name="embedding.tokens",
            kind="linear",
            component="embedding",
            about="token embedding: x is the unit vector of a token id, W the embedding matrix transposed",
            sizes={"d_in": "vocab"},
            lookup=True,
        ),
        Slot(
            name="embedding.stem",
            kind="linear",
            component="embedding",
            about="a convolution before what gives the token vectors, by its depth where there are several; x is a window of its input",
        ),
        Slot(
            name="embedding.patches",
            kind="linear",
            component="embedding",
            about="what makes token vectors of patches or frames; x is one of these",
        ),
        Slot(name="embedding", kind="sequence", component="embedding", about="token vectors that enter the stack"),
        Slot(name="embedding.norm", kind="norm", component="embedding", about="normalisation of the token vectors"),
        *_attention("attention", "self attention"),
        *_attention("cross_attention", "cross attention"),
        Slot(name="ffn.norm", kind="norm", component="ffn", about="normalisation of the feed-forward sublayer"),
        Slot(
            name="ffn.gate",
            kind="linear",
            component="ffn",
            about="gate projection of a gated feed-forward",
            sizes={"d_in": "d_model", "d_out": "d_ff"},
        ),
        Slot(
            name="ffn.up",
            kind="linear",
            component="ffn",
            about="up projection of the feed-forward",
            sizes={"d_in": "d_model", "d_out": "d_ff"},
        ),
        Slot(name="ffn.hidden", kind="activation", component="ffn", about="what the down projection reads"),
        Slot(
            name="ffn.down",
            kind="linear",
            component="ffn",
            about="down projection of the feed-forward",
            sizes={"d_in": "d_ff", "d_out": "d_model"},
        ),
        Slot(name="ffn.post_norm", kind="norm", component="ffn", about="second norm of the feed-forward sublayer"),
        Slot(name="ffn", kind="sublayer", component="ffn", about="the feed-forward sublayer"),
        Slot(name="layer", kind="sublayer", component="layer", about="the whole layer, after its residual sums"),
        Slot(name="final.norm", kind="norm", component="final", about="normalisation after the last layer"),
        Slot(
            name="head",
            kind="linear",
            component="head",
            about="language-model head",
            sizes={"d_in": "d_model", "d_out": "vocab"},
        ),
    ),
)


_SLOTS = {slot.name: slot for slot in ARCHITECTURE.slots}


GROUPS: dict[str, tuple[str, ...]] = {
    "linear": tuple(
        slot.name
        for slot in ARCHITECTURE.slots
        if slot.kind == "linear" and slot.component not in ("embedding", "head")
    ),
    "norm": tuple(slot.name for slot in ARCHITECTURE.slots if slot.kind == "norm"),
}
"""Words that stand for every slot of a kind: an insertion at `linear` goes to all linear slots within the layers of a host."""


def _attention_words(slot: Slot) -> dict[str, tuple[str, ...]]:
    """The words for a slot of self attention: `attention` is cross attention as well, where a layer has it."""
    return {slot.name: (slot.name, f"cross_{slot.name}"), f"self_{slot.name}": (slot.name,)}


WORDS: dict[str, tuple[str, ...]] = GROUPS | {
    word: slots
    for slot in ARCHITECTURE.slots
    for word, slots in (_attention_words(slot) if slot.component == "attention" else {slot.name: (slot.name,)}).items()
}
"""Every word of `at` with the slots that it stands for.

`attention.query` is the query projection of self and of cross attention, `self_attention.query` and `cross_attention.query` that of
one; any other slot is a word for itself.
"""


def slots_of(wanted: str) -> tuple[str, ...]:
    """The slots of the reference architecture that a word of `at` stands for; a stack may stand in front.

    >>> slots_of("decoder.attention.query"), slots_of("self_attention.query"), len(slots_of("norm")) > 3
    (('attention.query', 'cross_attention.query'), ('attention.query',), True)
    """
    if wanted in WORDS:
        return WORDS[wanted]
    rest = wanted.partition(".")[2]
    return slots_of(rest) if rest else ()


def slot_beside(word: str, slot: str) -> str | None:
    """The slot that a word means in an equation at another slot of the same layer; None where it means none.

    >>> slot_beside("attention.key", "cross_attention.core"), slot_beside("self_attention.key", "cross_attention.core")
    ('cross_attention.key', 'attention.key')
    """
    found = () if word in GROUPS else WORDS.get(word, ())
    component = _SLOTS[slot].component if slot in _SLOTS else ""
    return next((each for each in found if _SLOTS[each].component == component), found[0] if found else None)
