"""The command line: ``trustopt COMMAND`` or ``python -m trustopt COMMAND``.

Whatever happens in a command ends here and becomes one of ``exit_codes``.
"""

import argparse
import importlib
import logging
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import NamedTuple, NoReturn

from .. import __version__
from ..train.ranks import PeerError
from .exit_codes import BAD_INPUT, INTERRUPTED, UNEXPECTED


class Command(NamedTuple):
    """A command's module in this package, and what it does."""

    module: str
    summary: str


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "demo": Command("demo", "train a tiny model on bundled pictures; downloads nothing"),
        "train": Command("train", "train a LoRA as a job.toml says"),
        "sweep": Command("sweep", "train one job in many ways, as a sweep.toml lists them"),
        "plan": Command("plan", "show the training plan for a folder of pictures, or for a number"),
        "inspect": Command("inspect_lora", "show what is in a LoRA file"),
        "convert": Command("convert_lora", "write a LoRA in another format, precision or rank"),
        "bench": Command("bench", "run a benchmark"),
    }
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: Arguments after the program's name; None takes the process's own.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = build_parser(argv[0] if argv else "").parse_args(argv)
    handler = Notices()
    log = logging.getLogger("trustopt")
    log.addHandler(handler)
    try:
        return load_command(arguments.command).run(arguments)
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except Exception as error:  # noqa: BLE001  (the outermost frame: every error gets its code)
        return report(error)
    finally:
        log.removeHandler(handler)


def build_parser(chosen: str) -> argparse.ArgumentParser:
    """Return the parser; only the chosen command's module is imported for its arguments."""
    parser = Parser(
        prog="trustopt",
        description="Train SDXL and FLUX LoRAs with trust-driven optimizers.",
        epilog="trustopt COMMAND --help says more. A first run: trustopt demo",
    )
    parser.add_argument("--version", action="version", version=f"trustopt {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:
            load_command(name).add_arguments(command)
    return parser


class Parser(argparse.ArgumentParser):
    """Says what is wrong first and how the command is used after it."""

    def error(self, message: str) -> NoReturn:
        """Report wrong arguments and leave."""
        self.exit(fail(message, BAD_INPUT), self.format_usage())


def load_command(name: str) -> ModuleType:
    """Import a command's module."""
    return importlib.import_module(f".{COMMANDS[name].module}", __package__)


def report(error: Exception) -> int:
    """Say what went wrong on stderr and return the exit code.

    An error that this program raises is meant for the user, who needs its message alone. One
    raised elsewhere (torch, a library) is unexpected, and whoever mends it needs the traceback.
    """
    if isinstance(error, PeerError) and error.is_echo:
        return UNEXPECTED  # the process it comes from says it
    ours = raised_by_us(error)
    if ours and isinstance(error, ValueError):
        return fail(f"{error}", BAD_INPUT)
    if ours and isinstance(error, (OSError, RuntimeError)):
        words = error.strerror if isinstance(error, OSError) and error.strerror else error
        return fail(f"{words}", UNEXPECTED)
    fail(f"unexpected {type(error).__name__}: {error}", UNEXPECTED)
    traceback.print_exception(error, file=sys.stderr)
    return UNEXPECTED


def raised_by_us(error: BaseException) -> bool:
    """Return whether the line that raised an error is this package's own."""
    modules = [f.f_globals.get("__name__", "") for f, _ in traceback.walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1].split(".")[0] == __name__.split(".")[0]


def fail(message: str, code: int) -> int:
    """Write ``trustopt: message`` to stderr and return the code."""
    print(f"trustopt: {message}", file=sys.stderr, flush=True)
    return code


class Notices(logging.Handler):
    """Shows the program's own warnings as lines on whatever stderr is at that moment.

    A progress bar replaces stderr while it is drawn; a handler that kept the old one would tear it.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        print(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr, flush=True)
