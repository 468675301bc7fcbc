"""What one forward of a model did: values, events and module calls. Plain immutable data, no torch.

Values are in single-assignment form: an operator that writes in place gives a new value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from peftref.host.architecture import Form

Key = int | str


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor at one moment: its shape, the event that made it (-1 where none did), and what it is where none did.

    param: name of the parameter that it is. source: name of the model's input that it is.
    live: it depends on the model's inputs; a mask, a position or a parameter does not.
    """

    index: int
    shape: tuple[int, ...]
    event: int = -1
    output: int = 0
    param: str | None = None
    source: str | None = None
    live: bool = False


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands for a value among the arguments of an event."""

    value: int


@dataclass(frozen=True, slots=True)
class Event:
    """One operator: its name, the callable and its arguments (tensors replaced by Ref), and the innermost module's call.

    moves: the operator only moves elements about (a view, a copy, a concatenation).
    """

    index: int
    op: str
    func: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    call: int
    moves: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a module: path, tensors in and out by position or name, and the events that happened in [start, stop).

    parent: the call that this one was made in, -1 for the model's own. closed: how many calls had returned before this one.
    """

    index: int
    path: str
    parent: int
    inputs: Mapping[Key, int]
    outputs: Mapping[Key, int]
    start: int
    stop: int
    closed: int


@dataclass(frozen=True, slots=True)
class Attend:
    """One call of the attention function: the event that stands for it, the module that called it, what went in and out.

    causal: None where neither the mask nor the module says. own: the module computes attention itself, and not through
    transformers' attention interface. cached: its keys and values go through a cache all the same.
    """

    event: int
    call: int
    path: str
    query: int
    key: int
    value: int
    output: int
    causal: bool | None
    own: bool = False
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the model: its class name, its own parameters with their shapes, and its forward's argument names.

    scales: it holds the factor by which it scales what it looks up, as transformers' scaled embeddings do. bare: it is no module but
    a parameter with which its owner multiplies by itself, and how that stores the matrix; each product is a call of it.
    """

    path: str
    type: str
    params: Mapping[str, tuple[int, ...]]
    arguments: tuple[str, ...] = ()
    scales: bool = False
    bare: Form | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything that one forward did, in order. left_out: the inputs with which it could not be run, and what was said then."""

    values: tuple[Value, ...]
    events: tuple[Event, ...]
    calls: tuple[Call, ...]
    attends: tuple[Attend, ...]
    modules: Mapping[str, Module]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def shape(self, value: int) -> tuple[int, ...]:
        """The shape of a value."""
        return self.values[value].shape

    def maker(self, value: int) -> Event | None:
        """The event that made a value, None for a parameter, a buffer or an input."""
        event = self.values[value].event
        return None if event < 0 else self.events[event]

    def within(self, event: int, call: Call) -> bool:
        """Whether an event happened during a call."""
        return call.start <= event < call.stop
