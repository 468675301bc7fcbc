"""Expression -> readable torch source: op by op as their rows say, sums and products in fewer passes. It imports no torch.

A value per token is a tensor [batch, tokens, *shape], one per sample [batch, 1, *shape], any other [*shape].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from peftref.language.expr import Call, Expr, Name, Number, Text, walk
from peftref.language.ops import TABLE
from peftref.language.read_size import size_of
from peftref.language.rewrite.simplify import simplify
from peftref.language.scope import Scope
from peftref.language.source import Source, atom

LONGEST = 72
"""Letters of an expression beyond which it becomes a variable of its own."""


@dataclass
class Emitter:
    """Writes the statements that compute expressions of one scope at given sizes.

    numbers: settings and sizes as numbers. tensors: names of leaves and quantities to the source that reads them.
    labels: names that the author gave to parts, used for the variables that hold them. given: sources of parts that are made
    elsewhere.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.read_size import parse_size
    >>> scope = scope_at("attention.query", {"A": Leaf("A", (parse_size("r"), parse_size("d_in")))}, {"r": 8})
    >>> Emitter(scope, {"r": 8, "d_in": 64, "d_out": 64}, {"A": "self.A", "x": "x"}).expression(parse_expression("A @ x"))
    'F.linear(x, self.A)'
    """

    scope: Scope
    numbers: Mapping[str, int | float]
    tensors: Mapping[str, str]
    labels: Mapping[Expr, str] = field(default_factory=dict)
    given: Mapping[Expr, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    _uses: Counter[Expr] = field(default_factory=Counter)
    _done: dict[Expr, str] = field(default_factory=dict)
    _reads: int = 0

    def block(self, values: Iterable[Expr]) -> list[str]:
        """The sources of some values, after `lines` that compute what they share."""
        wanted = list(values)
        for expr in wanted:
            self._count(expr)
        return [self.expression(expr) for expr in wanted]

    def _count(self, expr: Expr) -> None:
        self._uses[expr] += 1
        if self._uses[expr] == 1 and isinstance(expr, Call):
            for i, arg in enumerate(expr.args):
                if i not in TABLE[expr.op].aside:
                    self._count(arg)

    def expression(self, expr: Expr) -> str:
        """The source of one value; parts that are used more than once become variables first."""
        if expr in self._done:
            return self._done[expr]
        source = self._source(expr)
        named = self._uses[expr] > 1 or expr in self.labels or len(source) > LONGEST
        if isinstance(expr, Call) and self.scope.kind(expr).dims and named:
            name = self.labels.get(expr, f"t{len(self._done) + 1}")
            self.lines.append(f"{name} = {source}")
            self._done[expr] = name
            return name
        return source

    def _source(self, expr: Expr) -> str:
        if expr in self.given:
            return self.given[expr]
        match expr:
            case Number(value):
                return repr(value)
            case Name(name):
                return self.tensors[name] if name in self.tensors else repr(self.numbers[name])
            case Text(value):
                return repr(value)
        if not self._is_tensor(expr) and (number := self._folded(expr)) is not None:
            return repr(number)
        return self._fused(expr) or self._written(expr)

    def _fused(self, expr: Call) -> str | None:
        """A form of sums and products in fewer passes than op by op, where there is one."""
        match expr:
            case Call("add"):
                return self._add(expr)
            case Call("sub"):
                return self._sub(expr)
            case Call("mul") if 1 in (folded := [self._folded(arg) for arg in expr.args]):
                return self.expression(expr.args[1 - folded.index(1)])
            case Call("matmul", (Call("transpose", (inner,)) as left, right)) if left not in self.given:
                kinds = self.scope.kind(left), self.scope.kind(right)
                if kinds[0].per == "none" != kinds[1].per and [len(kind.dims) for kind in kinds] == [2, 1]:
                    return f"{atom(self.expression(right))} @ {atom(self.expression(inner))}"
        return None

    def _written(self, expr: Call) -> str:
        """An op by its row of the table."""
        op, source = TABLE[expr.op], TABLE[expr.op].source
        args = self._aligned(expr) if op.elementwise else [self._operand(expr, i) for i in range(len(expr.args))]
        if op.setting is not None and len(args) < op.arity[1]:
            args.append(repr(self.numbers[op.setting]))
        given = dict(expr.options)
        options = {name: default or 0 for name, default in op.options.items()}
        options |= {name: size_of(value).evaluate(self._sizes()) for name, value in given.items()}
        kinds = tuple(self.scope.kind(arg) for arg in expr.args if not isinstance(arg, Text))
        if callable(source):
            return source(Source(tuple(args), kinds, self.scope.kind(expr), options, self._sizes()))
        atoms = [atom(arg) for arg in args] if op.symbol or source.startswith("{0}") else args
        read = self._which() if "{read}" in source else ""
        return source.format(*atoms, operands=", ".join(args), axes=len(kinds[0].dims), read=read, **options)

    def _operand(self, expr: Call, number: int) -> str:
        arg = expr.args[number]
        if isinstance(arg, Text):
            return arg.value
        return self._turn(expr, arg) if number in TABLE[expr.op].aside else self.expression(arg)

    def _folded(self, expr: Expr) -> int | float | None:
        """The number that an expression of settings and sizes is, or None."""
        match expr:
            case Number(value):
                return value
            case Name(name):
                return self.numbers.get(name)
            case Call(op, args):
                known = [self._folded(arg) for arg in args]
                literals = [Number(value) for value in known if value is not None]
                folded = simplify(Call(op, tuple(literals))) if len(literals) == len(args) else None
                return folded.value if isinstance(folded, Number) else None
        return None

    def _aligned(self, expr: Call) -> list[str]:
        """Operands of an elementwise op: a column [n] gets an axis for every further axis of the result."""
        most = len(self.scope.kind(expr).dims)
        sources = []
        for arg in expr.args:
            source, dims = self.expression(arg), len(self.scope.kind(arg).dims)
            missing = most - dims if self._is_tensor(arg) and (dims or self.scope.kind(arg).per != "none") else 0
            sources.append(f"{atom(source)}[..., {', '.join(['None'] * missing)}]" if missing else source)
        return sources

    def _is_tensor(self, expr: Expr) -> bool:
        return any(isinstance(node, Name) and node.name in self.tensors for node in walk(expr))

    def _add(self, expr: Call) -> str | None:
        """A sum; where one side is a matrix times a value per token, both in one pass. `a + (b - c)` is `(a + b) - c` then."""
        a, right = expr.args
        if (turned := self._shift_first(a, right)) is not None:
            return self._source(turned)
        if isinstance(right, Call) and right.op == "sub" and self._once(right):
            b, c = right.args
            if isinstance(c, Call) and self._adds_product(expr, c):
                return self._source(Call("sub", (Call("add", (a, b)), c)))
        for sum_side, product in (expr.args, expr.args[::-1]):
            if isinstance(product, Call) and self._adds_product(sum_side, product):
                matrix, vector = (self.expression(arg) for arg in product.args)
                if self.scope.kind(sum_side).per == "none":
                    return f"F.linear({vector}, {matrix}, {self.expression(sum_side)})"
                return f"op.add_product({self.expression(sum_side)}, {vector}, {matrix})"
        return None

    def _shift_first(self, a: Expr, b: Expr) -> Call | None:
        """`(p + q) + b` as `(p + b) + q`, where p is a product and b a constant: the product adds it in its own pass."""
        if not (isinstance(a, Call) and a.op == "add" and self._once(a) and self.scope.kind(b).per == "none"):
            return None
        p, q = a.args
        product = isinstance(p, Call) and self._adds_product(b, p)
        return Call("add", (Call("add", (p, b)), q)) if product else None

    def _sub(self, expr: Call) -> str | None:
        """A difference; where a matrix times a value per token is taken from a value, both in one pass."""
        whole, product = expr.args
        if isinstance(product, Call) and self._adds_product(whole, product) and self.scope.kind(whole).per == "token":
            matrix, vector = (self.expression(arg) for arg in product.args)
            return f"op.add_product({self.expression(whole)}, {vector}, {matrix}, -1)"
        return None

    def _once(self, expr: Expr) -> bool:
        """Whether a part is wanted nowhere else, and has no name."""
        return expr not in self._done and expr not in self.given and self._uses[expr] <= 1 and expr not in self.labels

    def _adds_product(self, sum_side: Expr, product: Call) -> bool:
        """Whether a sum is a product that is wanted nowhere else, and a value or a constant of the same shape."""
        if product.op != "matmul" or not self._once(product):
            return False
        matrix, vector = (self.scope.kind(arg) for arg in product.args)
        whole = self.scope.kind(sum_side)
        shapes = len(matrix.dims) == 2 and len(vector.dims) == 1 and whole.dims == self.scope.kind(product).dims
        return shapes and matrix.per == "none" and vector.per == "token" and whole.per in ("token", "none")

    def _sizes(self) -> dict[str, int]:
        return {name: int(value) for name, value in self.numbers.items() if isinstance(value, int)}

    def _turn(self, expr: Call, made: Expr) -> str:
        """The name of a function, written in front, that makes of the gradient of an op's first operand what an expression says."""
        value = expr.args[0]
        inner = Emitter(self.scope, self.numbers, self.tensors, given={value: "gradient"})
        (result,) = inner.block([made])
        name = f"steer_{value.name if isinstance(value, Name) else len(self.lines)}"
        self.lines += [f"def {name}(gradient):", *(f"    {line}" for line in (*inner.lines, f"return {result}"))]
        return name

    def _which(self) -> str:
        """Which reading of other tokens this is, where it is not the first: what is kept of them in a cache goes by it."""
        self._reads += 1
        return f", {self._reads - 1}" if self._reads > 1 else ""
