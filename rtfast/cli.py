"""The `rtfast` command: finds the command's module, reads its arguments, says errors in one line.

A command is a module with EXAMPLES, `add_arguments(parser)` and `run(arguments)`, which raises `UserError`
for what the user can put right. It is imported only when it is called for.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import re
import sys
import warnings
from typing import TYPE_CHECKING, Any

from rtfast import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import NoReturn

#: Module of each command, and its line in the help.
COMMANDS = {
    "translate": ("rtfast.translate_command", "English to Spanish with the model that comes along, or with yours"),
    "explain": ("rtfast.explain", "a sentence's way through the model, step by step, every number on show"),
    "demo": ("rtfast.demo", "the article's example, from words to words, with every number on show"),
    "generate": ("rtfast.generate_command", "text in, text out: random weights, your own, or a saved model"),
    "bench": ("rtfast.bench", "how fast the kernels are here, beside the same arithmetic in NumPy"),
    "info": ("rtfast.info", "which build runs, on which CPU, with how many threads, and why"),
}

EXAMPLES = """\
examples:
  rtfast translate "Hello world"               the small model that comes with rtfast
  rtfast explain "the red house"               what it computes for that, from words to words
  rtfast demo                                  read the whole example, step by step
  rtfast demo --steps 6-9 --precision 8        attention and layer norm, to 8 decimals
  rtfast generate "hello world"                random weights of the article's sizes
  rtfast generate --model FOLDER < lines.txt   a saved model, one line after the other
  rtfast bench --quick                         a first impression in five seconds
  rtfast info --json                           for a bug report or a script"""

OK, FAILED, BAD_USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141

#: What a message goes on with that says what a program could do.
FOR_PROGRAMS = "; a WordTokenizer made with unknown="

#: A message longer than this hides its own beginning on a terminal.
MAX_MESSAGE = 600


class UserError(Exception):
    """Something the user gave does not work: said in one line, exit status 2."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UserError` in place of printing its usage."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the arguments as a `UserError`."""
        raise UserError(message)


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argument's type: an integer from `least` to `most`."""
    wanted = f"of {least} or more" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"must be a whole number {wanted}, got {text[:80]!r}")
        return number

    return read


def a_name(text: str) -> str:
    """An argument's type: the name of a file, a folder or a model."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"must be a name, got {text!r}")
    return text


def file_name(text: str) -> str | None:
    """An argument's type: a file, or None for -, which is stdin or stdout."""
    return None if text == "-" else a_name(text)


def option(field: str) -> str:
    """The option of an argument's name, as it is typed."""
    return "--" + field.replace("_", "-")


def as_typed(message: str, options: Mapping[str, str]) -> str:
    """A message of the library with the command line's names, of {name: option}, but for what it quotes."""
    for field in sorted(options, key=len, reverse=True):
        whole = rf"(?<![\w'\"-]){field}(?![\w'\"])" if field.isidentifier() else re.escape(field)
        message = re.sub(whole, options[field], message)
    return message


@contextlib.contextmanager
def blaming_the_user(what: str = "", options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn what the library says about the user's arguments into a `UserError`.

    what: begins the message. options: of `as_typed`.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, MemoryError, TypeError, ValueError, OverflowError, ImportError) as error:
        start = f"{what}: " if what and getattr(error, "filename", None) is None else ""
        message = explain(error)
        if options and not isinstance(error, OSError):
            message = as_typed(message, options)
        raise UserError(start + message) from error


def explain(error: BaseException) -> str:
    """An exception as people say it: the file, if it has one, and what is wrong."""
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}".rstrip(": ")
    reason = getattr(error, "strerror", None) or str(error).partition(FOR_PROGRAMS)[0]
    name = getattr(error, "filename", None)
    return reason if name is None else f"{os.fsdecode(name)}: {reason}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (sys.argv's by default) and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    program = f"rtfast {arguments[0]}" if arguments and arguments[0] in COMMANDS else "rtfast"
    _survive_any_character()
    try:
        with _warning_in_one_line(program):
            status = _run(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
    except UserError as error:
        return _complain(program, str(error), BAD_USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except OSError as error:
        if error.errno == errno.ENOSPC:  # the interpreter would try to write the rest again
            _discard_output()
        return _complain(program, explain(error), FAILED)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return OK
    if arguments[0] in ("-V", "--version"):
        print(f"rtfast {__version__}")
        return OK
    name, rest = arguments[0], arguments[1:]
    if name == "help":
        name, rest = (rest[0], ["--help"]) if rest else ("--help", [])
        return _run([name, *rest])
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        raise UserError(f"no {what} is named {name!r}; the commands are {', '.join(COMMANDS)}")
    command = importlib.import_module(COMMANDS[name][0])
    parser = Parser(prog=f"rtfast {name}", allow_abbrev=False, description=(command.__doc__ or "").strip(),
                    epilog=command.EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_arguments(parser)
    try:
        parsed = parser.parse_intermixed_args(rest)
    except SystemExit:  # --help has been printed
        return OK
    return command.run(parsed) or OK


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    return f"""\
usage: rtfast COMMAND [options]

A transformer inference engine for CPUs that you can read: every number on show.

commands:
{commands}

options:
  -h, --help     this help; rtfast COMMAND --help has the command's options
  -V, --version  the version

{EXAMPLES}"""


def _complain(program: str, message: str, status: int) -> int:
    """Print the message as one line on stderr; return the status."""
    line = " ".join(message.split())
    if len(line) > MAX_MESSAGE:
        line = line[:MAX_MESSAGE - 3] + "..."
    note(f"{program}: {line}")
    return status


def note(line: str) -> None:
    """Print a line on stderr, if there is one: without, `print` would take stdout."""
    with contextlib.suppress(OSError):
        if sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _warning_in_one_line(program: str) -> Iterator[None]:
    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None,
             line: str | None = None) -> None:
        _complain(program, f"warning: {message}", OK)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _survive_any_character() -> None:
    """Escape what the terminal's encoding lacks, so that a user's word cannot end the program."""
    with contextlib.suppress(AttributeError, ValueError):
        stdout: Any = sys.stdout  # None, or in tests an object that only writes
        stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Send what is still buffered nowhere: the interpreter flushes it at its end."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
