"""The command line: each command is a thin call of a public function. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line and exits: 0 where all went well, 2 for the user's mistakes, 130 for an interrupt.

    >>> main(["--version"])
    Traceback (most recent call last):
    ...
    SystemExit: 0
    """
    from peftref.cli.app import app
    from peftref.cli.output import INTERRUPTED, failed, quiet_pipe
    from peftref.core.quiet import only_ours

    with only_ours():
        try:
            code = app(list(arguments) if arguments is not None else None, standalone_mode=False)
        except Exception as error:
            code = failed(error)
        except KeyboardInterrupt:
            code = INTERRUPTED
    raise SystemExit(quiet_pipe(code if isinstance(code, int) else 0))
