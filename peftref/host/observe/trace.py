"""Record one forward of a model as a graph of values, events and module calls."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedConfig, PreTrainedModel

from peftref.host.observe.bare import Product, Products
from peftref.host.observe.graph import Attend, Call, Event, Graph, Key, Module, Ref, Value
from peftref.host.observe.own import with_own_attention
from peftref.host.observe.probe import probe
from peftref.host.observe.shadow import Numbers, Shadows, looks_back, placed, tensors_of

MOVES = frozenset(
    {"_unsafe_view", "_reshape_alias", "reshape", "clone", "lift_fresh", "_to_copy", "cat", "stack", "repeat"}
    | {"flip", "roll", "index_select", "repeat_interleave", "constant_pad_nd", "unfold", "pixel_shuffle"}
    | {"split", "split_with_sizes", "view_as_complex", "view_as_real"}
)
ATTENTION = "_attn_implementation_internal"
DOORS = (ATTENTION, "_experts_implementation_internal")


def record(
    model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], device: str = "meta", shadows: Shadows | None = None
) -> Graph:
    """Run the model once on the inputs and give the graph of what happened; the model is left as it was.

    For the time of the run a probe is the attention implementation of every config in the model, which must be its own.
    shadows: what answers where code asks a tensor for its numbers.
    """
    recorder = Recorder(model, shadows or Shadows())
    inputs = {name: recorder.enter(name, tensor, device) for name, tensor in inputs.items()}
    with ExitStack() as stack:
        stack.enter_context(
            attending(model, stack.enter_context(probe(recorder.attended, recorder.masked, recorder.routed)))
        )
        watched = recorder.watch(), Products(recorder.multiplied)
        for context in (*watched, torch.no_grad(), torch.device(device), recorder, recorder.numbers()):
            stack.enter_context(context)
        model(**inputs)
    return recorder.graph()


@contextmanager
def attending(model: PreTrainedModel, name: str, doors: tuple[str, ...] = DOORS) -> Iterator[None]:
    """Set implementations in every config that a module of the model holds, and put the old ones back."""
    held = {id(config): config for module in model.modules() for config in _configs(getattr(module, "config", None))}
    before = [(config, each, getattr(config, each, None)) for config in held.values() for each in doors]
    for config, each, _ in before:
        setattr(config, each, name)
    try:
        yield
    finally:
        for config, each, old in before:
            setattr(config, each, old)


def _configs(config: object) -> Iterator[PreTrainedConfig]:
    """A config and the configs inside it."""
    if isinstance(config, PreTrainedConfig):
        yield config
        for key in config.sub_configs:
            yield from _configs(getattr(config, key, None))


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's mode is not typed
    """Writes down every operator and every module call while it is the active mode."""

    def __init__(self, model: torch.nn.Module, shadows: Shadows) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's mode is not typed
        self._model = model
        self._values: list[Value] = []
        self._events: list[Event] = []
        self._calls: list[Call] = []
        self._attends: list[Attend] = []
        self._open: list[int] = []
        self._closed = 0
        self._ids: dict[int, int] = {}
        self._kept: list[torch.Tensor] = []
        self._sharing: dict[int, list[torch.Tensor]] = defaultdict(list)
        self._causal: dict[int, bool] = {}
        self._shadows = shadows
        self._bare: dict[str, Module] = {}
        self._paths = {id(module): path for path, module in model.named_modules()}
        for name, parameter in model.named_parameters():
            self._new(parameter, param=name)

    def graph(self) -> Graph:
        """What was recorded."""
        modules = {path: _module(path, module) for path, module in self._model.named_modules()} | self._bare
        graph = Graph(tuple(self._values), tuple(self._events), tuple(self._calls), tuple(self._attends), modules)
        return with_own_attention(graph, self._looking_back())

    def _looking_back(self) -> frozenset[int]:
        """The values that are masks in which a token sees only those before it."""
        reals = ((tensor, self._shadows.real(tensor)) for tensor in self._kept)
        return frozenset(self._ids[id(tensor)] for tensor, real in reals if real is not None and looks_back(real))

    def enter(self, name: str, tensor: torch.Tensor, device: str) -> torch.Tensor:
        """Declare one of the model's arguments, and give it on the device of the run."""
        moved = placed(tensor, device, self._shadows)
        self._new(moved, source=name, live=True)
        return moved

    def numbers(self) -> Numbers:
        """Follow numbers that are written out and asked for as lists, for the duration of the block."""
        return Numbers(self._shadows)

    def watch(self) -> _Watch:
        """Follow the module calls for the duration of the block."""
        return _Watch(self, self._model)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = list(tensors_of((args, kwargs)))
        inputs = tuple(self.value(tensor) for tensor in tensors)
        template = _template(args, self), _template(kwargs, self)
        result = self._shadows.call(func, args, kwargs)
        written = list(tensors_of(result))
        live = any(self._values[index].live for index in inputs)
        if not written and not inputs:
            return result
        index = len(self._events)
        fresh = tuple(self._new(tensor, event=index, output=i, live=live) for i, tensor in enumerate(written))
        name = func._schema.name.split("::")[-1]
        self._events.append(
            Event(
                index, name, func, template[0], template[1], inputs, fresh, self._call(), func.is_view or name in MOVES
            )
        )
        if func._schema.is_mutable:
            self._overwrite(written, index, live)
            if live:
                self._shadows.forget(other for tensor in written for other in self._sharing[_storage(tensor)])
        return result

    def value(self, tensor: torch.Tensor) -> int:
        """The value that a tensor holds now."""
        known = self._ids.get(id(tensor))
        return self._new(tensor) if known is None else known

    def attended(self, module: Any, query: Any, key: Any, value: Any, mask: Any, output: Any) -> None:
        """Note one call of the attention function."""
        q, k, v = self.value(query), self.value(key), self.value(value)
        index = len(self._events)
        out = self._new(output, event=index, live=True)
        self._events.append(Event(index, "attend", None, (), {}, (q, k, v), (out,), self._call()))
        causal = self._causal.get(self.value(mask)) if isinstance(mask, torch.Tensor) else None
        if causal is None:
            causal = getattr(module, "is_causal", None)
        self._attends.append(Attend(index, self._call(), self._paths[id(module)], q, k, v, out, causal))

    def routed(self, hidden: torch.Tensor, output: torch.Tensor) -> None:
        """Note one mixture of experts."""
        index, entering = len(self._events), self.value(hidden)
        out = self._new(output, event=index, live=True)
        self._events.append(Event(index, "experts", None, (), {}, (entering,), (out,), self._call()))

    def masked(self, mask: torch.Tensor, causal: bool | None) -> None:
        """Note a mask that the model asked for."""
        if causal is not None:
            self._causal[self.value(mask)] = causal

    def multiplied(self, product: Product, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Note a product with a parameter of the module that is running, one of several matrices, as a call of the parameter."""
        path = self._values[self.value(product.weight)].param or ""
        owner, _, name = path.rpartition(".")
        if not name or not self._open or self._calls[self._open[-1]].path != owner:
            return make()
        shapes = [tuple(each.shape) for each in self._model.get_submodule(owner).parameters(recurse=False)]
        if sum(len(shape) > 1 for shape in shapes) < 2:
            return make()
        shape = tuple(product.weight.flatten(1).shape)
        known = self._bare.setdefault(path, Module(path, "Parameter", {"weight": shape}, ("input",), bare=product.form))
        if known.bare != product.form:
            return make()
        self.call_starts(path, (product.x,), {})
        made = make()
        self.call_ends(made)
        return made

    def call_starts(self, path: str, args: Any, kwargs: Any) -> None:
        """Note that a module is called."""
        inputs: dict[Key, int] = {key: self.value(tensor) for key, tensor in _keyed(args)}
        inputs.update((key, self.value(tensor)) for key, tensor in _keyed(kwargs))
        index = len(self._calls)
        self._calls.append(Call(index, path, self._call(), inputs, {}, len(self._events), -1, -1))
        self._open.append(index)

    def call_ends(self, output: Any) -> None:
        """Note that the module that was called last has returned."""
        call = self._calls[self._open.pop()]
        outputs = {key: self.value(tensor) for key, tensor in _keyed(output)}
        self._calls[call.index] = Call(
            call.index, call.path, call.parent, call.inputs, outputs, call.start, len(self._events), self._closed
        )
        self._closed += 1

    def _call(self) -> int:
        return self._open[-1] if self._open else -1

    def _new(self, tensor: torch.Tensor, **facts: Any) -> int:
        index = len(self._values)
        self._values.append(Value(index, tuple(tensor.shape), **facts))
        if id(tensor) not in self._ids:
            self._kept.append(tensor)
            self._sharing[_storage(tensor)].append(tensor)
        self._ids[id(tensor)] = index
        return index

    def _overwrite(self, written: list[torch.Tensor], event: int, live: bool) -> None:
        """Give the tensors that share memory with what was written in place a new value too."""
        for tensor in written:
            for other in self._sharing[_storage(tensor)]:
                if other is tensor:
                    continue
                old = self._values[self._ids[id(other)]]
                index = len(self._events)
                fresh = self._new(other, event=index, live=live or old.live)
                inputs = (old.index, self._ids[id(tensor)])
                self._events.append(Event(index, "overwritten", None, (), {}, inputs, (fresh,), self._call()))


class _Watch:
    """Hooks on every module of a model, for the duration of a block."""

    def __init__(self, recorder: Recorder, model: torch.nn.Module) -> None:
        self._recorder, self._model = recorder, model
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        for path, module in self._model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._before(path), prepend=True, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._after))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, path: str) -> Any:
        return lambda module, args, kwargs: self._recorder.call_starts(path, args, kwargs)

    def _after(self, module: Any, args: Any, output: Any) -> None:
        self._recorder.call_ends(output)


def _template(tree: Any, recorder: Recorder) -> Any:
    if isinstance(tree, torch.Tensor):
        return Ref(recorder.value(tree))
    if isinstance(tree, Mapping):
        return {key: _template(item, recorder) for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_template(item, recorder) for item in tree) if type(tree) in (list, tuple) else tuple(tree)
    return tree


def _keyed(tree: Any) -> Iterable[tuple[Key, torch.Tensor]]:
    """The tensors of a call's arguments or results, by position or name."""
    if isinstance(tree, torch.Tensor):
        yield 0, tree
    elif isinstance(tree, Mapping):
        yield from ((key, item) for key, item in tree.items() if isinstance(item, torch.Tensor))
    elif isinstance(tree, (list, tuple)):
        yield from ((key, item) for key, item in enumerate(tree) if isinstance(item, torch.Tensor))


def _module(path: str, module: torch.nn.Module) -> Module:
    params = {name: tuple(parameter.shape) for name, parameter in module.named_parameters(recurse=False)}
    arguments = tuple(inspect.signature(module.forward).parameters)
    return Module(path, type(module).__name__, params, arguments, hasattr(module, "embed_scale"))


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
