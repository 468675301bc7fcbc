"""Text -> tree: a small operator-precedence parser that says where a text stops making sense."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from peftref.core.problem import PeftrefError, Place, Problem
from peftref.language.expr import Call, Equation, Expr, Name, Number, Statement, Target, Text

Locate = Callable[[int, int], Place]

MAX_CHARACTERS = 4000
MAX_DEPTH = 60

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*)
      | (?P<number>\d+\.\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<text>"[^"\n]*")
      | (?P<end>[\n;])
      | (?P<op>\*\*|//|[-+*/@=(),.'])
    """,
    re.VERBOSE,
)
_INFIX = {"+": ("add", 1), "-": ("sub", 1), "*": ("mul", 2), "/": ("div", 2), "//": ("floordiv", 2), "@": ("matmul", 2)}
_POWER = 4
_UNARY = 3


@dataclass(frozen=True, slots=True)
class _Token:
    type: str
    text: str
    start: int
    end: int


def plain_locate(text: str, source: str = "equation") -> Locate:
    """A locator for a text that stands by itself: offsets to line and column.

    >>> plain_locate("a = b\\nc = d")(6, 7).line
    2
    """

    def locate(start: int, end: int) -> Place:
        line = text.count("\n", 0, start) + 1
        first = text.rfind("\n", 0, start) + 1
        last = text.find("\n", start)
        whole = text[first : len(text) if last < 0 else last]
        return Place(source, line, start - first + 1, max(1, min(end, first + len(whole)) - start), whole)

    return locate


def parse(text: str, locate: Locate | None = None) -> Equation:
    """The tree of an equation; raises PeftrefError `syntax` with the place of every statement that is wrong.

    >>> parse("h' = h + B @ A @ x").statements[0].targets[0].primed
    True
    """
    where = locate or plain_locate(text)
    statements: list[Statement] = []
    problems: list[Problem] = []
    if len(text) > MAX_CHARACTERS:
        raise PeftrefError([Problem("syntax", f"the equation is longer than {MAX_CHARACTERS} characters", where(0, 1))])
    for tokens in _split(_tokens(text, where)):
        try:
            statements.append(_Parser(tokens, where).statement())
        except PeftrefError as error:
            problems += error.problems
    if problems:
        raise PeftrefError(problems)
    if not statements:
        raise PeftrefError([Problem("syntax", "the equation is empty", where(0, 1), hint="write h' = ...")])
    return Equation(tuple(statements))


def parse_expression(text: str, locate: Locate | None = None) -> Expr:
    """The tree of a single expression.

    >>> parse_expression("2 * r")
    Call(op='mul', args=(Number(value=2), Name(name='r')), options=())
    """
    where = locate or plain_locate(text)
    if len(text) > MAX_CHARACTERS:
        raise PeftrefError([Problem("syntax", f"the text is longer than {MAX_CHARACTERS} characters", where(0, 1))])
    parser = _Parser([token for token in _tokens(text, where) if token.type != "end"], where)
    expr = parser.expression()
    parser.finish()
    return expr


def _tokens(text: str, where: Locate) -> list[_Token]:
    tokens: list[_Token] = []
    problems: list[Problem] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            hint = {"^": "powers are written **", "[": "there is no indexing: use part(x, i, n)"}.get(text[at])
            if text[at] == '"':
                hint = "close the text with a second quote"
            problems.append(Problem("syntax", f"unexpected character {text[at]!r}", where(at, at + 1), hint=hint))
            at += 1
            continue
        if match.lastgroup != "space":
            tokens.append(_Token(str(match.lastgroup), match.group(), match.start(), match.end()))
        at = match.end()
    if problems:
        raise PeftrefError(problems)
    return tokens


def _split(tokens: list[_Token]) -> list[list[_Token]]:
    """Statements: cut at ends of lines and semicolons outside parentheses."""
    parts: list[list[_Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        if token.type == "end":
            if depth <= 0 or token.text == ";":
                parts.append([])
                depth = 0
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


class _Parser:
    """A cursor over the tokens of one statement."""

    def __init__(self, tokens: list[_Token], where: Locate) -> None:
        self.tokens = tokens
        self.where = where
        self.at = 0
        self.depth = 0

    def statement(self) -> Statement:
        targets = [self._target()]
        while self._accept(","):
            targets.append(self._target())
        if not self._accept("="):
            raise self._error("a statement is NAME = EXPRESSION, or QUANTITY' = EXPRESSION", "an = is missing here")
        value = self.expression()
        self.finish()
        return Statement(tuple(targets), value)

    def finish(self) -> None:
        if self.at < len(self.tokens):
            token = self.tokens[self.at]
            text = (
                "this is primed, but only the left side of a statement may be"
                if token.text == "'"
                else "this does not continue the expression"
            )
            raise self._error(None, text)

    def expression(self, least: int = 0) -> Expr:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error("split it with intermediates: z = ...", f"the expression nests deeper than {MAX_DEPTH}")
        left = self._unary()
        while (token := self._peek()) is not None:
            if token.text == "**" and least <= _POWER:
                self.at += 1
                left = self._call("pow", left, self.expression(_POWER))
                continue
            op = _INFIX.get(token.text)
            if token.type != "op" or op is None or op[1] < least:
                break
            self.at += 1
            left = self._call(op[0], left, self.expression(op[1] + 1))
        self.depth -= 1
        return left

    def _unary(self) -> Expr:
        token = self._peek()
        if token is not None and token.text == "-":
            self.at += 1
            operand = self.expression(_UNARY)
            if isinstance(operand, Number):
                return Number(-operand.value, (token.start, operand.span[1]))
            return Call("neg", (operand,), (), (token.start, operand.span[1]))
        return self._postfix(self._atom())

    def _postfix(self, expr: Expr) -> Expr:
        while (token := self._peek()) is not None and token.text == ".":
            follower = self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else None
            if follower is None or follower.type != "name":
                raise self._error("write M.T", "a name must follow the dot")
            self.at += 2
            if follower.text == "T":
                expr = Call("transpose", (expr,), (), (expr.span[0], follower.end))
            elif isinstance(expr, Name):
                expr = Name(f"{expr.name}.{follower.text}", (expr.span[0], follower.end))
            else:
                raise self._error("only .T may follow an expression", f".{follower.text} has no meaning here", back=1)
        return expr

    def _atom(self) -> Expr:
        token = self._peek()
        if token is None:
            raise self._error(None, "the expression ends too early")
        self.at += 1
        span = (token.start, token.end)
        if token.type == "number":
            integer = token.text.isdigit()
            if integer and len(token.text) > 18:
                raise self._error(None, "this number is too large", back=1)
            return Number(int(token.text) if integer else float(token.text), span)
        if token.type == "text":
            return Text(token.text[1:-1], span)
        if token.type == "name":
            return self._arguments(token) if self._accept("(") else Name(token.text, span)
        if token.text == "(":
            inner = self.expression()
            if not self._accept(")"):
                raise self._error("close it with )", "this parenthesis is never closed", at=token)
            return _widen(inner, token.start, self.tokens[self.at - 1].end)
        raise self._error(None, f"an expression cannot begin with {token.text!r}", back=1)

    def _arguments(self, name: _Token) -> Call:
        args: list[Expr] = []
        options: list[tuple[str, Expr]] = []
        opening = self.tokens[self.at - 1]
        while not self._accept(")"):
            if args or options:
                if self._peek() is None:
                    raise self._error("close it with )", "this parenthesis is never closed", at=opening)
                if not self._accept(","):
                    raise self._error(None, "a comma or ) is missing before this")
            token = self._peek()
            follower = self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else None
            if token is not None and token.type == "name" and follower is not None and follower.text == "=":
                self.at += 2
                options.append((token.text, self.expression()))
            elif options:
                raise self._error(None, "options such as heads=4 come last")
            elif token is None:
                raise self._error("close it with )", "this parenthesis is never closed", at=opening)
            else:
                args.append(self.expression())
        return Call(name.text, tuple(args), tuple(sorted(options)), (name.start, self.tokens[self.at - 1].end))

    def _target(self) -> Target:
        token = self._peek()
        if token is None or token.type != "name":
            raise self._error("a statement is NAME = EXPRESSION, or QUANTITY' = EXPRESSION", "a name must stand here")
        self.at += 1
        primed = self._accept("'")
        return Target(token.text, primed, (token.start, self.tokens[self.at - 1].end))

    def _peek(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _accept(self, text: str) -> bool:
        token = self._peek()
        if token is not None and token.text == text and token.type == "op":
            self.at += 1
            return True
        return False

    def _call(self, op: str, left: Expr, right: Expr) -> Call:
        return Call(op, (left, right), (), (left.span[0], right.span[1]))

    def _error(self, hint: str | None, text: str, *, at: _Token | None = None, back: int = 0) -> PeftrefError:
        token = at or (self.tokens[self.at - back] if self.at - back < len(self.tokens) else None)
        last = self.tokens[-1] if self.tokens else None
        start, end = (token.start, token.end) if token else (last.end, last.end + 1) if last else (0, 1)
        return PeftrefError([Problem("syntax", text, self.where(start, end), hint=hint)])


def _widen(expr: Expr, start: int, end: int) -> Expr:
    match expr:
        case Call(op, args, options):
            return Call(op, args, options, (start, end))
        case Name(name):
            return Name(name, (start, end))
        case Number(value):
            return Number(value, (start, end))
        case Text(value):
            return Text(value, (start, end))
