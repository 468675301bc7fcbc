"""Family maps: where the projections are in transformers that attend on their own. No torch, no transformers."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator

from peftref.core.data import data_folder
from peftref.core.problem import PeftrefError, Problem
from peftref.host.architecture import Frozen

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Expression = Annotated[int | str, Field(description="a whole number, or an expression of the config's fields")]


class RowMap(Frozen):
    """Rows of a fused projection: its output axis seen as `shape`, cut to start:stop on `axis`."""

    shape: tuple[Expression, ...] = Field(min_length=1)
    axis: int = Field(ge=0)
    start: Expression
    stop: Expression


class PartMap(Frozen):
    """A projection: its path below the attention module, and its rows where it is fused."""

    path: str
    rows: RowMap | None = None


class AttentionMap(Frozen):
    """One way in which the family attends; it holds where `when`, an expression of config fields, is not zero."""

    when: Expression = 1
    module: str = Field(description="path pattern of the attention module, with {layer}; anything may stand in front")
    n_heads: Expression
    n_kv_heads: Expression
    d_head: Expression
    d_value: Expression | None = None
    causal: bool
    cached: bool = Field(
        default=False, description="whether keys and values go through the cache, so that rows can stand there"
    )
    query: PartMap
    key: PartMap
    value: PartMap
    output: PartMap

    @field_validator("module")
    @classmethod
    def _has_layer(cls, module: str) -> str:
        if module.count("{layer}") != 1:
            raise ValueError("a module pattern has {layer} once")
        return module

    def pattern(self) -> re.Pattern[str]:
        """What the paths of the attention modules look like."""
        front, back = (re.escape(part) for part in self.module.split("{layer}"))
        return re.compile(rf"(?:.+\.)?{front}\d+{back}")


class Family(Frozen):
    """A family of transformers that attend on their own: model type, why the probe finds nothing, and its attentions."""

    model_type: str
    title: str
    why: str
    attentions: tuple[AttentionMap, ...] = Field(min_length=1)


def family_of(model_type: str) -> Family | None:
    """The family map of a model type, None where there is none.

    >>> family_of("bloom").attentions[0].query.path
    'query_key_value'
    """
    path = data_folder("catalog") / "hosts" / f"{model_type}.yaml"
    return read_family(path) if path.is_file() else None


@cache
def read_family(path: Path) -> Family:
    """A family map from a file. Raises PeftrefError `host-map-wrong` with everything that is wrong in it."""
    try:
        return Family.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader))
    except ValidationError as error:
        raise PeftrefError(
            Problem("host-map-wrong", f"{path.name}: {'.'.join(map(str, each['loc']))}: {each['msg']}")
            for each in error.errors()
        ) from error
    except yaml.YAMLError as error:
        raise PeftrefError(
            [Problem("host-map-wrong", f"{path.name} is not YAML: {str(error).splitlines()[0]}")]
        ) from error
