"""Taps: where the modules of a technique meet a module of the host. A tap overrides `forward` of one instance, and can be taken off.

The class, the parameters, the state dict and the hooks of the host's module stay untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.host.site import Site
from peftref.modules.running.entering import Entering, Units
from peftref.modules.running.hold import HELD
from peftref.modules.running.linear_map import FORMS
from peftref.modules.running.live_site import LiveSite
from peftref.modules.running.override import Override
from peftref.modules.running.own import Own
from peftref.modules.running.rows import put, take
from peftref.modules.running.run import Run, by_part
from peftref.modules.running.turn import turned, turning

ORDER = {"activation": 0, "norm": 1, "linear": 2, "sequence": 3, "sublayer": 4}
OWN = {"g": "weight", "b": "bias", "E": "weight"}
Change = Callable[[Tensor], Tensor]
Acting = list[tuple[LiveSite, list[Run]]]
"""Places under one tap, with the runs that act there."""


class Tap:
    """What one module of the host does differently: effects on its inputs, its own quantities, and its outputs.

    combine: says how runs of several techniques are put together. tokens_first: whether the host holds [tokens, batch, ...] there, which techniques see turned.
    """

    def __init__(
        self,
        module: nn.Module,
        combine: Callable[[], str],
        tokens_first: bool = False,
    ) -> None:
        self.module = module
        self.combine = combine
        self.live: list[LiveSite] = []
        self.tokens_first = tokens_first
        self.override = Override(module, partial(turning, self._forward) if tokens_first else self._forward)

    def add(self, live: LiveSite, model: nn.Module) -> None:
        """Puts one more place under this tap; inputs come before outputs, parts before wholes."""
        if "out" in live.site.ports:
            live.norm = model.get_submodule(live.site.ports["out"].path)
        if live not in self.live:
            self.live.append(live)
            self.live.sort(key=lambda each: ORDER[each.kind])

    def remove(self) -> None:
        """Takes the override off."""
        self.override.remove()

    def _forward(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        acting = [(live, live.runs()) for live in self.live]
        working = self._lonely([each for each in acting if each[1]])
        if not working:
            return original(*args, **kwargs)
        own = Own(self.module)
        for live, runs in working:
            if live.kind == "activation":
                args, kwargs = _replaced(args, kwargs, partial(self._apply, live, runs, own, {}))
        given = args[0] if args else next(iter(kwargs.values()), None)
        whole = [(live, [run for run in runs if not run.part]) for live, runs in working]
        with _own_quantities(own, whole, self.combine()):
            result = None if self._unread(working) else original(*args, **kwargs)
            result = self._apart(original, own, working, args, kwargs, result)
            for live, runs in working:
                if live.kind in ("linear", "sublayer", "norm"):
                    known = {"x": given} if live.kind != "sublayer" else _held(live, runs)
                    result = self._output(live, runs, own, known, result)
        return result

    def _lonely(self, working: Acting) -> Acting:
        """What works here, in the form for one technique alone where there is only one at a whole linear map."""
        if len(working) != 1 or working[0][0].kind != "linear" or not working[0][0].site.whole:
            return working
        live, runs = working[0]
        best = ([each.best(self.module) for each in mine] if len(mine) == 1 else mine for _, mine in by_part(runs))
        return [(live, [run for mine in best for run in mine])]

    def _unread(self, working: Acting) -> bool:
        """Whether the host's own output is wanted by nobody: one whole linear map, replaced by what does not read it."""
        outputs = [each for each in working if each[0].kind != "activation"]
        if len(outputs) != 1 or outputs[0][0].kind != "linear" or outputs[0][0].site.ports["h"].rows is not None:
            return False
        if outputs[0][0].site.form == "convolution":  # its output says how far it reaches in space
            return False
        runs = outputs[0][1]
        if runs[0].part:  # others' samples keep it
            return False
        return "h" not in runs[0].reads and not (self.combine() == "sum" and len(runs) > 1)

    def _output(self, live: LiveSite, runs: list[Run], own: Own, known: dict[str, Any], result: Any) -> Any:
        site = live.site
        port = site.ports["h"]
        whole: Any = result if result is None or isinstance(result, Tensor) else result[port.key]
        linear = FORMS[site.form] if live.kind == "linear" else None
        given = known.get("x")
        h = whole if linear is None else linear.vectors(self.module, given, whole)
        part = h if port.rows is None else take(h, port.rows)
        if linear is not None and given is not None:
            known = {"x": linear.entering(self.module, given)}
        changed = self._apply(live, [run for run in runs if "h" in run.gives or run.carry], own, known, part)
        if changed is part:
            return result
        changed = changed if port.rows is None else put(h, port.rows, changed)
        changed = changed if linear is None else linear.put(self.module, changed, whole)
        if result is None or isinstance(result, Tensor):
            return changed
        return type(result)(changed if i == port.key else each for i, each in enumerate(result))

    def _apart(
        self,
        original: Callable[..., Any],
        own: Own,
        working: Acting,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
    ) -> Any:
        """The result with the samples whose techniques replace what the module itself owns called again with that."""
        owned = [run for live, runs in working for run in runs if run.part and _owns(live, run)]
        for part, _ in by_part(owned):
            assert part is not None
            mine = [(live, [run for run in runs if run.part and run.part.name == part.name]) for live, runs in working]
            with _own_quantities(own, mine, "stack"):
                again = original(*map(part.take, args), **{name: part.take(value) for name, value in kwargs.items()})
            result = part.put(result, again)
        return result

    def _apply(self, live: LiveSite, runs: list[Run], own: Own, known: dict[str, Any], h: Any) -> Any:
        """h after all runs, those of some samples on these."""
        for part, mine in by_part(runs):
            if part is None:
                h = self._after_all(live, mine, own, known, h)
            else:
                taken = {name: part.take(value) for name, value in known.items()}
                with part.alone():
                    h = part.put(h, self._after_all(live, mine, own, taken, part.take(h)))
        return h

    def _after_all(self, live: LiveSite, runs: list[Run], own: Own, known: dict[str, Any], h: Any) -> Any:
        """h after all runs: one after the other, or the sum of what each alone would add."""
        if self.combine() == "sum" and len(runs) > 1:
            after = [self._after(live, run, own, known, h) for run in runs]
            return h + sum((each - h for each in after if each is not h), start=torch.zeros_like(h))
        for i, run in enumerate(runs):
            if i and live.kind == "linear" and run.replaces_map:
                h = _on_map(run, live.site, own, known["x"], runs[:i])
            else:
                h = self._after(live, run, own, known, h)
        return h

    def _after(self, live: LiveSite, run: Run, own: Own, known: dict[str, Any], h: Any) -> Any:
        """h after one run; `out` is what the host would make of the stream and this h."""
        more = {}
        if "out" in run.reads:
            total = known["res"] + h
            more["out"] = self._normed(live.norm, total)
        return run(live.site, own, **known, h=h, **more).get("h", h)

    def _normed(self, norm: nn.Module | None, total: Tensor) -> Any:
        """What the host makes of the sum of stream and output."""
        if norm is None:
            return total
        return turned(norm(turned(total))) if self.tokens_first else norm(total)


def _held(live: LiveSite, runs: list[Run]) -> dict[str, Any]:
    """What was kept for a sublayer; raises PeftrefError `stream-twice` where it gives an output for which nothing was kept."""
    found: dict[str, Any] = {name: live.held.pop(name) for name in HELD if name in live.held}
    for name in (name for name in HELD if name in live.site.ports and name not in found):
        if any(not HELD[name].isdisjoint(run.reads) for run in runs):
            text = f"{live.site.name} gives several outputs in one call of its layer, and {name} is known for the first alone"
            raise fail("stream-twice", text, hint="write the equation with h, or have the host run one stream")
    return found


def _on_map(run: Run, site: Site, own: Own, x: Tensor | Entering, before: list[Run]) -> Tensor:
    """The output of a run that reads the weight itself, on the linear map that the runs before it make of the host's.

    The map is read off from what these runs make of the unit vectors and of zero; that they are linear is seen to when they
    are made active together.
    """
    weight, bias = own.quantity("W", site), own.quantity("b", site)
    ids = torch.arange(weight.shape[1], device=weight.device)[None]
    for each in before:
        training = each.forward.training
        each.forward.eval()
        zero = torch.zeros(1, 1, weight.shape[1], dtype=weight.dtype, device=weight.device)
        units = Units(ids, weight.shape[1], weight.dtype)
        known = {"W": weight, "b": bias}
        images = each(site, own, x=units, h=F.linear(units, weight, bias), **known)["h"][0]  # type: ignore[arg-type]  # torch asks it
        shift = each(site, own, x=zero, h=F.linear(zero, weight, bias), **known)["h"][0, 0]
        each.forward.train(training)
        weight, bias = (images - shift).T, shift
    out: Tensor = run(site, own, x=x, h=F.linear(x, weight, bias), W=weight, b=bias)["h"]  # type: ignore[arg-type]  # as above
    return out + bias if "b" in site.lacks and "h" not in run.reads else out


def _replaced(args: tuple[Any, ...], kwargs: dict[str, Any], change: Change) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with the first one changed."""
    if args:
        return (change(args[0]), *args[1:]), kwargs
    first = next(iter(kwargs))
    return args, {**kwargs, first: change(kwargs[first])}


def _owns(live: LiveSite, run: Run) -> bool:
    """Whether a run replaces what the module itself owns."""
    return live.kind in ("norm", "sequence") and OWN.keys() >= set(run.gives)


@contextmanager
def _own_quantities(own: Own, working: Acting, combine: str) -> Iterator[None]:
    """While inside, the module's own gain and shift, or embedding matrix, are the replaced ones, stacked or summed."""
    module = own.module
    swapped: dict[str, Tensor] = {}
    for live, runs in working:
        site = live.site
        for run in runs:
            if _owns(live, run):
                known = {name: swapped[OWN[name]] for name in run.reads if OWN.get(name) in swapped}
                given = run(site, own, **({} if combine == "sum" else known))
                if combine == "sum":
                    given = {
                        name: value + (swapped[OWN[name]] - own.quantity(name, site) if OWN[name] in swapped else 0)
                        for name, value in given.items()
                    }
                swapped |= {OWN[name]: value for name, value in given.items()}
    saved = {name: module._parameters[name] for name in swapped if module._parameters.get(name) is not None}
    own.forget()
    for name in saved:
        module._parameters[name] = swapped[name]
    try:
        yield
    finally:
        for name, parameter in saved.items():
            module._parameters[name] = parameter
