"""What each slot claims, tried on a live model: a finding is whether it holds, and why; None for what cannot be tried."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from peftref.host.observe.past import TRIED, cache_layer, past_of, some_rows
from peftref.host.site import Site
from peftref.proof.linear import is_its_map
from peftref.proof.local import across_tokens
from peftref.proof.trial import Seen, Trial, differ, shift

Finding = tuple[bool | None, str]
PARTS = ("query", "key", "value")


def claim(trial: Trial, site: Site) -> Finding:
    """Whether a site behaves as its slot says: True, False, or None where that cannot be tried, with the reason."""
    component, _, role = site.slot.partition(".")
    if site.kind == "linear":
        right, why = is_its_map(trial, site)
        if right is False:
            return right, why
    if component in ("attention", "cross_attention") and role in PARTS:
        return _projection(trial, site, component, role)
    return _CLAIMS[role if role in _CLAIMS else site.kind](trial, site, component)


def _projection(trial: Trial, site: Site, component: str, role: str) -> Finding:
    core = trial.site(site, f"{component}.core")
    if core is None or core.form == "cache":
        return across_tokens(trial, site, component, role)
    flags = trial.moved_qkv(trial.run(site.ports["h"], shift), core.path)
    if flags is None:
        return None, "its attention was not called in the small instance"
    own = [_same_rows(site, trial.site(site, f"{component}.{part}")) for part in PARTS]
    moved = [part for part, flag in zip(PARTS, flags, strict=True) if flag]
    others = [part for part, mine in zip(PARTS, own, strict=True) if not mine]
    said = f"a change of its output changes {' and '.join(moved) or 'nothing'} and not {' nor '.join(others)}"
    if list(flags) == own:
        return True, said
    return False, f"a change of its output changes {' and '.join(moved) or 'none'} of query, key and value"


def _same_rows(site: Site, other: Site | None) -> bool:
    return other is not None and (other.path, other.ports["h"].rows) == (site.path, site.ports["h"].rows)


def _core(trial: Trial, site: Site, component: str) -> Finding:
    if site.form == "cache":
        return _cached(trial, site, component)
    if site.path not in trial.base.attended:
        return None, "its attention was not called in the small instance"
    after = trial.run(change=shift, core=site.path)
    output = trial.site(site, f"{component}.output")
    return _reaches(trial, after, output, "x", "what it gives", "what the output projection reads")


def _cached(trial: Trial, site: Site, component: str) -> Finding:
    """Rows in the cache of a layer change what its output projection reads, and not its own query."""
    sites = [each for each in trial.host.sites if (each.slot, each.stack) == (site.slot, site.stack)]
    layers = {each.name: cache_layer(each, trial.model.get_submodule(each.path)) for each in sites}

    def seen(size: float) -> Seen:
        sizes = {layer: size if name == site.name else 1.0 for name, layer in layers.items()}
        return trial.run(past=past_of(TRIED, {layer: partial(some_rows, each) for layer, each in sizes.items()}))

    output, query = (trial.site(site, f"{component}.{role}") for role in ("output", "query"))
    if output is None or query is None:
        return None, "its query and output projections are not both known"
    one, other = seen(1.0), seen(2.0)
    read, own = (
        differ(*(run.ports.get(port) for run in (one, other))) for port in (output.ports["x"], query.ports["h"])
    )
    words = f"{'change' if read else 'do not change'} what the output projection reads, and {'change' if own else 'not'} the query"
    return read and not own, f"rows in its cache {words}"


def _output(trial: Trial, site: Site, component: str) -> Finding:
    if site.kind != "linear":
        return None, "not tried"
    after = trial.run(site.ports["h"], shift)
    return _reaches(
        trial, after, trial.site(site, component), "h", "its output", f"the output of the {component} sublayer"
    )


def _down(trial: Trial, site: Site, _: str) -> Finding:
    after = trial.run(site.ports["h"], shift)
    return _reaches(trial, after, trial.site(site, "ffn"), "h", "its output", "the output of the ffn sublayer")


def _hidden(trial: Trial, site: Site, _: str) -> Finding:
    down = trial.site(site, "ffn.down")
    if down is None:
        return None, "there is no ffn.down to read it"
    after = trial.run(site.ports["h"], shift)
    reads = trial.moved(after, down.ports["x"]) and trial.moved(after, down.ports["h"])
    return reads, f"a change of it changes {'' if reads else 'neither '}what ffn.down reads and gives"


def _into_hidden(trial: Trial, site: Site, component: str) -> Finding:
    hidden = trial.site(site, "ffn.hidden")
    if hidden is None:
        return None, "there is no ffn.hidden that it makes"
    port = hidden.ports["h"]
    runs = [trial.run(site.ports["h"], _by(step)) for step in (1.0, 2.0)]
    values = [trial.base.ports.get(port), *(run.ports.get(port) for run in runs)]
    if any(value is None for value in values):
        return None, "ffn.hidden was not seen in the small instance"
    if not trial.moved(runs[0], port):
        return False, "a change of its output does not change ffn.hidden"
    if site.slot == "ffn.up" and trial.site(site, "ffn.gate") is not None:
        return True, "a change of its output changes ffn.hidden" + (", in proportion" if _straight(values) else "")  # type: ignore[arg-type]
    return True, "a change of its output changes ffn.hidden"


def _by(step: float) -> Callable[[Tensor], Tensor]:
    return lambda value: value + step


def _strongly(value: Tensor) -> Tensor:
    signs = torch.linspace(-1, 1, value.shape[-1]).to(value.dtype)
    return value + 1e4 * signs


def _straight(values: list[Tensor]) -> bool:
    first, second, third = values
    scale = float((second - first).abs().max())
    return float((third - 2 * second + first).abs().max()) <= 1e-3 * scale


def _sublayer(trial: Trial, site: Site, component: str) -> Finding:
    after = trial.run(site.ports["h"], shift)
    if component == "layer":
        return _layer(trial, site)
    end = "output" if component != "ffn" else "down"
    last = trial.site(site, f"{component}.{end}")
    if last is not None and not trial.moved(trial.run(last.ports["h"], shift), site.ports["h"]):
        return False, f"a change of {last.slot} does not change its output"
    return _reaches(trial, after, trial.site(site, "layer"), "h", "its output", "the output of the layer")


def _layer(trial: Trial, site: Site) -> Finding:
    after = trial.run(site.ports["h"], shift)
    assert site.layer is not None
    for earlier in range(site.layer):
        before = trial.site(site, "layer", earlier)
        if before is not None and before.path != site.path and trial.moved(after, before.ports["h"]):
            return False, f"a change of its output changes layer {earlier}"
    following = trial.site(site, "layer", site.layer + 1)
    if following is not None and "x" in following.ports and following.path != site.path:
        return _reaches(trial, after, following, "x", "its output", "what the next layer reads, and no earlier layer")
    moved = trial.moved_out(after)
    return (
        (True, "a change of its output changes the model's")
        if moved
        else (None, "nothing that the model gives reads it")
    )


def _norm(trial: Trial, site: Site, component: str) -> Finding:
    after = trial.run(site.ports["h"], shift)
    if component in ("embedding", "final"):
        if component == "embedding":
            return _reaches(trial, after, trial.site(site, "layer", 0), "x", "its output", "what the first layer reads")
        last = max((each.layer or 0 for each in trial.host.sites if each.stack == site.stack), default=0)
        layer = trial.site(site, "layer", last)
        if layer is not None and not trial.moved(trial.run(layer.ports["h"], shift), site.ports["x"]):
            return False, "a change of the last layer's output does not change what it reads"
        if trial.moved_out(after):
            return True, "it reads the last layer's output, and a change of its own changes the model's"
        return None, "nothing that the model gives reads it"
    return _around(trial, site, component, after)


def _around(trial: Trial, site: Site, component: str, after: Seen) -> Finding:
    """Whether a norm stands right before a sublayer or right behind it: held as it is, it lets nothing past."""
    layer, port = trial.site(site, "layer"), site.ports["h"]
    if layer is None or port not in trial.base.ports:
        return None, "it was not seen in a layer of the small instance"
    readers = [trial.site(site, f"{component}.{part}") for part in ("query", "key", "value", "up", "gate")]
    readers.append(trial.site(site, component))
    read = [each.ports["x"] for each in readers if each is not None and "x" in each.ports]
    reached = [each for each in read if trial.moved(after, each)]
    if reached and "x" in layer.ports:
        shut = trial.run(layer.ports["x"], shift, held=port)
        if not all(trial.moved(shut, each) for each in reached):
            return True, f"the {component} sublayer reads its output, and nothing that goes past it"
    last = trial.site(site, f"{component}.{'down' if component == 'ffn' else 'output'}") or trial.site(site, component)
    if last is None:
        return None, f"there is no {component} sublayer to compare with"
    if not trial.moved(after, layer.ports["h"]):
        return False, "a change of its output does not change the layer's"
    if not trial.moved(trial.run(last.ports["h"], shift), port):
        if _ends(trial, site, component, after):
            return True, f"the {component} sublayer gives its output, and nothing that goes past it"
        return False, f"it stands neither before nor behind the {component} sublayer"
    past = trial.moved(trial.run(last.ports["h"], shift, held=port), layer.ports["h"])
    if past:
        return False, f"what the {component} sublayer gives goes past it"
    return True, f"the layer has the {component} sublayer's output through it alone"


def _ends(trial: Trial, site: Site, component: str, after: Seen) -> bool:
    """Whether a norm is the last step within a sublayer's module."""
    sublayer = trial.site(site, component)
    if sublayer is None or "x" not in sublayer.ports or not trial.moved(after, sublayer.ports["h"]):
        return False
    shut = trial.run(sublayer.ports["x"], shift, held=site.ports["h"])
    return not trial.moved(shut, sublayer.ports["h"])


def _linear(trial: Trial, site: Site, component: str) -> Finding:
    after = trial.run(site.ports["h"], shift)
    if component == "head":
        moved = trial.moved_out(after)
        return moved, f"a change of its output {'changes' if moved else 'does not change'} what the model gives"
    first = trial.site(site, "layer", 0)
    right, why = _reaches(trial, after, first, "x", "its output", "what the first layer reads")
    if right is False:  # a deep stem may lose a small change in rounding
        return _reaches(
            trial, trial.run(site.ports["h"], _strongly), first, "x", "its output", "what the first layer reads"
        )
    return right, why


def _sequence(trial: Trial, site: Site, _: str) -> Finding:
    after = trial.run(site.ports["h"], shift)
    return _reaches(trial, after, trial.site(site, "layer", 0), "x", "it", "what the first layer reads")


def _reaches(trial: Trial, after: Seen, target: Site | None, port: str, what: str, where: str) -> Finding:
    """Whether a changed run shows something else at a port of another site; where that site is not there, at the outputs."""
    if target is None or port not in target.ports:
        moved = trial.moved_out(after)
        return (
            (True, f"a change of {what} changes the model's output") if moved else (None, f"{where} is not to be had")
        )
    if trial.base.ports.get(target.ports[port]) is None:
        return None, f"{where} was not seen in the small instance"
    moved = trial.moved(after, target.ports[port])
    return moved, f"a change of {what} {'changes' if moved else 'does not change'} {where}"


_CLAIMS: dict[str, Callable[[Trial, Site, str], Finding]] = {
    "core": _core,
    "output": _output,
    "down": _down,
    "hidden": _hidden,
    "up": _into_hidden,
    "gate": _into_hidden,
    "norm": _norm,
    "post_norm": _norm,
    "sublayer": _sublayer,
    "linear": _linear,
    "sequence": _sequence,
}
