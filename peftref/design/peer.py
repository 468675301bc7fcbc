"""How a peer library calls a technique: what is needed to exchange modules with it and to measure side by side."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from peftref.core.frozen_map import FrozenMap
from peftref.design.fields import Line, SettingField, Slots, TechniqueName
from peftref.design.fixed import Fields, Fixed, Identifier
from peftref.host.architecture import Frozen


class Peer(Frozen):
    """How a peer library calls this technique: what is needed to exchange modules with it and to measure side by side."""

    type: str = Field(description="the name of its type there")
    settings: Fixed[Line] = Field(
        FrozenMap(),
        description="the settings by its fields: OURS: THEIRS, or THEIRS.INNER within a field of several, or an expression of its "
        "fields and sizes of the host: d_model // THEIRS",
    )
    follow: Fixed[Line | int] = Field(
        FrozenMap(), description="its fields that follow from sizes of the host and its other fields: THEIRS: n_layers"
    )
    values: Fixed[Fixed[SettingField]] = Field(
        FrozenMap(), description="what it calls the values of settings, where otherwise: SETTING: {OURS: THEIRS}"
    )
    listed: Fixed[Identifier] = Field(
        FrozenMap(), description="frozen leaves that stand in its config as a list of numbers: LEAF: THEIRS"
    )
    ours: Fixed[SettingField] = Field(FrozenMap(), description="settings of ours that have one value there")
    fixed: Fields[SettingField | tuple[SettingField, ...]] = Field(
        FrozenMap(), description="its fields that have one value for this technique"
    )
    timed: Fields[SettingField | tuple[SettingField, ...]] = Field(
        FrozenMap(),
        description="its fields where its running module is timed, if its own want what a benchmark has not; a setting's name stands for its value",
    )
    refused: Line | None = Field(None, description="why none of its checkpoints is this technique, nor is any written")
    orthonormal: tuple[Identifier, ...] = Field(
        (), description="leaves whose orthonormal columns it keeps under torch's orthogonal parametrisation"
    )
    targets: Fixed[Slots] = Field(
        FrozenMap(),
        description="its fields that list modules, with their slots; all slots in target_modules where left out",
    )
    keys: Fixed[Line] = Field(
        FrozenMap(),
        description="what it calls the leaves, behind the module's path where there is one: LEAF: KEY; "
        "<n> is the number of the module among those that it stands on",
    )
    tables: Fixed[Line] = Field(
        FrozenMap(), description="what it calls the leaves at a token embedding, where that differs: LEAF: KEY"
    )
    layouts: Fixed[Line] = Field(
        FrozenMap(),
        description="how a leaf lies in its tensor, axis by axis, where otherwise: the number of an axis of the leaf, "
        "`layer` for one over the layers, `0/2` for the first of two, `kept+0` for axis 0 behind as many others as a setting says, "
        "`0+tokens` in front of them; `0 0` is a diagonal",
    )
    live: Fixed[Line] = Field(
        FrozenMap(),
        description="what its running model calls the leaves, where a saved module has other tensors: LEAF: NAME",
    )
    folds: TechniqueName | None = Field(
        None,
        description="the technique that its saved modules are, where they keep what the equation makes of the leaves, and not these",
    )
    stack: Line | None = Field(None, description="the stack in which it stands, where a host has several")
    spare: Identifier | None = Field(
        None, description="its field that says how many times over its tensors are kept, of which the first is read"
    )
    lists: Fixed[Identifier] = Field(
        FrozenMap(), description="its fields that are lists as long as a setting of ours says: THEIRS: OURS"
    )
    apart: Fixed[Line] = Field(
        FrozenMap(),
        description="model types, or `several` for hosts of several stacks, on which it computes something else, with what: MODEL_TYPE: WHAT",
    )
    tasks: tuple[Line, ...] = Field(
        (), description="its types of task for which a model with it can be called; all where left out"
    )
    without: tuple[Line, ...] = Field(
        (),
        description="quantities with which it computes something else, so that the host must lack them: attention.output.b, or b at each site",
    )
    harmless: Fields[tuple[SettingField, ...]] = Field(
        FrozenMap(),
        description="its fields that leave no mark on a saved module, with the values of which that holds; [] for any",
    )
    ignored: tuple[Identifier, ...] = Field((), description="its fields that change nothing for this technique")
    buffers: Fixed[Line] = Field(
        FrozenMap(), description="frozen leaves that it makes itself and does not save: LEAF: ATTRIBUTE of its layer"
    )
    pairs: tuple[Identifier, ...] = Field((), description="leaves of positions that it keeps as rows and columns")
    shifted: tuple[Identifier, ...] = Field(
        (), description="leaves that it keeps with the host's own numbers added, as which its tensor begins"
    )
    negated: tuple[Identifier, ...] = Field(
        (), description="leaves that it keeps with their sign changed, as it is written"
    )
    mutates: Literal["host"] | None = Field(None, description="host where it changes the host's weights as it begins")
    told: bool = Field(
        True,
        description="false where its checkpoint is that of another technique, as which it is read again",
        strict=True,
    )
    parts: tuple[Peer, ...] = Field((), description="the types of its that together are this technique")
