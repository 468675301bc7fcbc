"""peftref: a reference architecture of parameter-efficient finetuning that runs.

Everything public is reached from here and imported only when it is asked for, so that the front end never loads torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from peftref.analyse.cost import cost as cost
    from peftref.analyse.count import count as count
    from peftref.analyse.diff import diff as diff
    from peftref.analyse.explain import explain as explain
    from peftref.analyse.typology import typology as typology
    from peftref.core.problem import PeftrefError as PeftrefError
    from peftref.design.load import load as load
    from peftref.design.technique import Technique as Technique
    from peftref.exchange.adapters.read import read_adapters as read_adapters
    from peftref.exchange.adapters.write import write_adapters as write_adapters
    from peftref.exchange.peft.read import read_peft as read_peft
    from peftref.exchange.peft.write import write_peft as write_peft
    from peftref.host.locate.resolve import resolve as resolve
    from peftref.host.locate.slots import slots as slots
    from peftref.language.op import Op as Op
    from peftref.language.ops import register_op as register_op
    from peftref.modules.attach import attach as attach
    from peftref.modules.attach import set_active as set_active
    from peftref.modules.attached import Attached as Attached
    from peftref.modules.merge import merge as merge
    from peftref.modules.per_sample import per_sample as per_sample
    from peftref.modules.restore import refill as refill
    from peftref.modules.restore import restore as restore
    from peftref.proof.prove import prove as prove
    from peftref.study.compare import compare as compare
    from peftref.study.train.callback import ProcedureCallback as ProcedureCallback
    from peftref.study.train.checkpoints import ModuleCallback as ModuleCallback

_HOME = {
    "Attached": "modules.attached",
    "ModuleCallback": "study.train.checkpoints",
    "Op": "language.op",
    "PeftrefError": "core.problem",
    "ProcedureCallback": "study.train.callback",
    "Technique": "design.technique",
    "attach": "modules.attach",
    "compare": "study.compare",
    "cost": "analyse.cost",
    "count": "analyse.count",
    "diff": "analyse.diff",
    "explain": "analyse.explain",
    "load": "design.load",
    "merge": "modules.merge",
    "per_sample": "modules.per_sample",
    "prove": "proof.prove",
    "read_adapters": "exchange.adapters.read",
    "read_peft": "exchange.peft.read",
    "refill": "modules.restore",
    "register_op": "language.ops",
    "resolve": "host.locate.resolve",
    "restore": "modules.restore",
    "set_active": "modules.attach",
    "slots": "host.locate.slots",
    "typology": "analyse.typology",
    "write_adapters": "exchange.adapters.write",
    "write_peft": "exchange.peft.write",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'peftref' has no attribute {name!r}")
    return getattr(importlib.import_module(f"peftref.{_HOME[name]}"), name)
