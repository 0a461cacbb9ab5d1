"""Mirrors trustopt/cli/main.py: what the shell sees."""

import subprocess
import sys
from pathlib import Path

import pytest

from trustopt.cli import main as cli
from trustopt.cli.exit_codes import BAD_INPUT, INTERRUPTED, UNEXPECTED

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["demo", "--help"], ["plan", "12"], ["bench", "-h"]],
)
def test_answers_without_torch(arguments) -> None:
    code = (
        "import sys; from trustopt.cli.main import main\n"
        f"try: main({arguments})\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'PIL', 'diffusers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 5


def test_module_and_commands_are_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trustopt", "plan", "0"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == BAD_INPUT
    assert done.stderr.startswith("trustopt: no images to train on")


def test_bad_input_is_one_line_without_traceback(capsys, tmp_path) -> None:
    assert cli.main(["train", str(tmp_path / "none.toml")]) == BAD_INPUT
    out, err = capsys.readouterr()
    assert err.startswith("trustopt: job file")
    assert "Traceback" not in err + out


def test_wrong_arguments_are_named_first(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["plan", "12", "--purpose", "face"])
    assert end.value.code == BAD_INPUT
    assert "invalid choice: 'face'" in capsys.readouterr().err.splitlines()[0]


class Command:
    """A command that raises."""

    def __init__(self, error) -> None:
        self.error = error

    def add_arguments(self, parser) -> None:
        pass

    def run(self, arguments) -> int:
        if callable(self.error):
            self.error()
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (lambda: int("seven"), UNEXPECTED, "Traceback"),  # raised here: not the user's doing
        (KeyError("x"), UNEXPECTED, "Traceback"),
        (KeyboardInterrupt(), INTERRUPTED, "trustopt: interrupted"),
    ],
)
def test_other_errors_have_their_codes(monkeypatch, capsys, error, code, words) -> None:
    monkeypatch.setattr(cli, "load_command", lambda name: Command(error))
    assert cli.main(["plan"]) == code
    assert words in capsys.readouterr().err


def test_what_the_program_warns_of_is_shown(monkeypatch, capsys) -> None:
    import logging

    class Warns(Command):
        def run(self, arguments) -> int:
            logging.getLogger("trustopt").warning("mind the %s", "gap")
            return 0

    monkeypatch.setattr(cli, "load_command", lambda name: Warns(None))
    assert cli.main(["plan"]) == 0
    assert capsys.readouterr().err == "warning: mind the gap\n"
    assert not [h for h in logging.getLogger("trustopt").handlers if isinstance(h, cli.Notices)]
