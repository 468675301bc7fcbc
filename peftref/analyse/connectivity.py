"""How the leaves of a technique are connected with each other, and whether a gate weighs what they give by the input."""

from __future__ import annotations

from peftref.analyse.matrix import Facts
from peftref.analyse.reading import Part
from peftref.analyse.row import Cell
from peftref.analyse.structure import Structure
from peftref.language.expr import Call, Expr, Text, names, walk
from peftref.language.op import FIRST
from peftref.language.ops import TABLE
from peftref.language.rewrite.constant import constants, depends
from peftref.language.scope import Leaf
from peftref.language.show import show


def connectivity(part: Part, change: Structure | None = None) -> Cell:
    """The property intra-connectivity: what stands between the leaves of one form. change: of the weight, where it is one."""
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
    formed = None if change is None else _formed(part, change)
    if formed is not None:
        return Cell(formed, show(value))
    bend = _bend(value, leaves, part)
    if bend is not None and products:
        return Cell(f"dense: non-linear MLP{factors}", show(bend))
    if blocks is not None and (change is None or change.added is None or change.added.form == "blocks"):
        return Cell("sparse: blocks", show(blocks))
    if products or kron:
        said = factors or _factors(part)
        if not said and len(_matrices(part)) == 1:
            return Cell("dense: linear layer", show(products[0] if products else value))
        return Cell(f"dense: linear MLP{said}", show(products[0] if products else kron or value))
    if part.form.integration == "concatenation":
        return Cell("dense: embedding", f"{show(part.form.new)} is put in front as it is")
    return Cell("none (element-wise)", f"{show(value)} acts on each number by itself")


BASES = {
    "entries": "sparse: scattered entries",
    "Fourier basis": "spectral: Fourier basis",
    "frozen basis": "spectral: frozen basis",
    "circulant blocks": "dense: circulant blocks",
    "elementwise product": "dense: elementwise product of factors",
}
"""What a matrix that is added is, by its form."""


def _formed(part: Part, change: Structure) -> str | None:
    """What the form of the changed weight says of the connections; None where it is a product of matrices like any other."""
    added, singular = change.added or Facts(), " (singular vectors)" if _singular(part) else ""
    if change.right is not None and change.right.orthogonal:
        dense = "reflections" if change.right.apart else "orthogonal matrix"
        sparse = change.right.blocks is not None or _calls(part, "butterfly")
        return "sparse: orthogonal blocks" if sparse else f"dense: {dense}"
    if change.left is not None and change.left.filled is not None:
        return "sparse: linear layer"
    if change.entries is not None:
        return "dense: factors of the entries"
    if added.form in BASES:
        return BASES[added.form] + singular
    if _numbers_alone(part):
        return f"dense: numbers on frozen factors{singular}"
    return None


def _matrices(part: Part) -> dict[str, Leaf]:
    """The leaves of two axes or more that a value reads, without those that hold positions."""
    read, leaves = names(part.form.value), part.insertion.leaves.items()
    return {name: leaf for name, leaf in leaves if name in read and len(leaf.dims) > 1 and not leaf.whole}


def _calls(part: Part, *ops: str) -> bool:
    return any(isinstance(node, Call) and node.op in ops for node in walk(part.form.value))


def _numbers_alone(part: Part) -> bool:
    """Whether all that is trained is numbers and vectors, beside matrices that are frozen."""
    found = _matrices(part)
    return bool(found) and not any(leaf.trainable for leaf in found.values())


def _singular(part: Part) -> bool:
    """Whether the frozen matrices begin as singular vectors of the weight."""
    frozen = [leaf for leaf in _matrices(part).values() if not leaf.trainable]
    return bool(frozen) and sum(leaf.init.startswith("svd_") for leaf in frozen) >= 2


def _factors(part: Part) -> str:
    """What is to be said of the factors of a product: orthonormal, block-diagonal, or a network of more than two cores."""
    if _calls(part, "qr", "gram_schmidt"):
        return " (orthonormal factor)"
    if _calls(part, "block_diag"):
        return " (block-diagonal factor)"
    leaves, scope = part.insertion.leaves, part.effect.scope

    def core(arg: Expr) -> bool:
        return any(leaves[name].trainable for name in names(arg) & leaves.keys()) and not depends(arg, scope)

    contractions = [node for node in walk(part.form.value) if isinstance(node, Call) and node.op == "einsum"]
    network = any(sum(map(core, node.args[1:])) > 2 for node in contractions)
    return " (tensor network)" if network else ""


def _mixes(node: Call, leaves: frozenset[str], part: Part) -> bool:
    """Whether a contraction mixes numbers by a leaf that is a matrix, rather than by the host's own weight."""
    operands = [arg for arg in node.args if not isinstance(arg, Text)]
    return any(names(arg) & leaves and len(part.effect.scope.kind(arg).dims) > 1 for arg in operands)


def _activation(node: Call, leaves: frozenset[str]) -> bool:
    """Whether a node bends a product of leaves: an activation of something that a leaf has mixed."""
    return TABLE[node.op].family in ("activation", "normalisation") and any(
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
    """Whether a value is an activation or a softmax, or something linear of one, such as its mean or a part of it."""
    while isinstance(expr, Call) and TABLE[expr.op].linear == FIRST:
        expr = expr.args[0]
    return isinstance(expr, Call) and TABLE[expr.op].family in ("activation", "normalisation")


def gate(part: Part) -> Cell:
    """The property inter-connectivity: fixed, or dynamic where one value of the input weighs another."""
    for node in walk(part.form.value):
        if isinstance(node, Call) and _weighs(node, part):
            return Cell("dynamic", f"{show(node)} weighs one value of the input by another")
    return Cell("fixed", "no factor depends on the input")
