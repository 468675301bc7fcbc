"""How the leaves of a technique are connected with each other, and whether a gate weighs what they give by the input."""

from __future__ import annotations

from peftref.analyse.reading import Part
from peftref.analyse.row import Cell
from peftref.language.expr import Call, Expr, Text, names, walk
from peftref.language.ops import TABLE
from peftref.language.rewrite.constant import constants, depends
from peftref.language.show import show


def connectivity(part: Part) -> Cell:
    """The property intra-connectivity: what stands between the leaves of one form."""
    leaves = frozenset(part.insertion.leaves)
    value, scope = part.form.value, part.effect.scope
    made = [each for each in constants(value, scope) if _bends(each, leaves)]
    if part.form.integration == "concatenation" and made:
        return Cell("dense: non-linear MLP while training, embedding after", f"{show(made[0])} depends on leaves alone")
    calls = [node for node in walk(value) if isinstance(node, Call) and names(node) & leaves]
    attention = next((node for node in calls if node.op == "attend"), None)
    if attention is not None:
        own = depends(attention.args[1], scope)
        return Cell("dense: self-attention" if own else "dense: attention to learned rows", show(attention))
    products = [node for node in calls if TABLE[node.op].family == "contraction" and _mixes(node, leaves, part)]
    kron = next((node for node in calls if node.op == "kron"), None)
    blocks = next((node for node in calls if node.op == "block_diag"), None)
    factors = " (Kronecker factors)" if kron else ""
    bend = _bend(value, leaves, part)
    if bend is not None and products:
        return Cell(f"dense: non-linear MLP{factors}", show(bend))
    if blocks is not None:
        return Cell("sparse: blocks", show(blocks))
    if products or kron:
        return Cell(f"dense: linear MLP{factors}", show(products[0] if products else kron or value))
    if part.form.integration == "concatenation":
        return Cell("dense: embedding", f"{show(part.form.new)} is put in front as it is")
    return Cell("none (element-wise)", f"{show(value)} acts on each number by itself")


def _mixes(node: Call, leaves: frozenset[str], part: Part) -> bool:
    """Whether a contraction mixes numbers by a leaf that is a matrix, rather than by the host's own weight."""
    operands = [arg for arg in node.args if not isinstance(arg, Text)]
    return any(names(arg) & leaves and len(part.effect.scope.kind(arg).dims) > 1 for arg in operands)


def _activation(node: Call, leaves: frozenset[str]) -> bool:
    """Whether a node bends a product of leaves: an activation of something that a leaf has mixed."""
    family = TABLE[node.op].family
    if node.op == "dropout" or family not in ("activation", "normalisation") or node.op.startswith("norm"):
        return False
    return any(
        isinstance(each, Call) and TABLE[each.op].family == "contraction" and names(each) & leaves
        for each in walk(node)
    )


def _bends(expr: Expr, leaves: frozenset[str]) -> bool:
    return any(isinstance(node, Call) and _activation(node, leaves) for node in walk(expr))


def _bend(expr: Expr, leaves: frozenset[str], part: Part, within: bool = False) -> Call | None:
    """The outermost activation on the way of the value; one that only weighs another value is a gate and does not count."""
    if not isinstance(expr, Call) or _activation(expr, leaves):
        return expr if isinstance(expr, Call) else None
    weighs = _weighs(expr, part)
    below = within or (not weighs and TABLE[expr.op].family == "contraction" and bool(names(expr) & leaves))
    values = [arg for arg in expr.args if within or not (weighs and _is_gate(arg))]
    return next((found for arg in values if (found := _bend(arg, leaves, part, below)) is not None), None)


def _weighs(node: Call, part: Part) -> bool:
    """Whether a product has several operands that depend on the input: one value weighs another."""
    row, scope = TABLE[node.op], part.effect.scope
    operands = [arg for arg in node.args if not isinstance(arg, Text)]
    return len(row.linear) > 1 and sum(scope.kind(arg).per != "none" for arg in operands) > 1


def _is_gate(expr: Expr) -> bool:
    """Whether a value is an activation or a softmax, or the mean of one."""
    while isinstance(expr, Call) and expr.op in ("mean_tokens", "part", "dropout", "stop_gradient", "steered"):
        expr = expr.args[0]
    return isinstance(expr, Call) and TABLE[expr.op].family in ("activation", "normalisation")


def gate(part: Part) -> Cell:
    """The property inter-connectivity: fixed, or dynamic where one value of the input weighs another."""
    for node in walk(part.form.value):
        if isinstance(node, Call) and _weighs(node, part):
            return Cell("dynamic", f"{show(node)} weighs one value of the input by another")
    return Cell("fixed", "no factor depends on the input")
