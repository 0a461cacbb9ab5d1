"""Mirrors trustopt/cli/plan.py."""

from PIL import Image

from trustopt.cli.main import main
from trustopt.plan import make_plan


def test_a_count_gives_the_plan_of_the_presets(capsys) -> None:
    assert main(["plan", "12", "--family", "flux", "--purpose", "style"]) == 0
    assert (
        capsys.readouterr().out.strip() == make_plan(12, family="flux", purpose="style").summary()
    )


def test_values_of_ones_own_and_the_optimizers_say(capsys) -> None:
    assert main(["plan", "12", "--set", "rank=32", "--optimizer", "autotrustgo"]) == 0
    out = capsys.readouterr().out
    assert "* rank                 32" in out
    assert "LR: 1.25e-4 (constant scheduler)" in out


def test_a_folder_is_scanned_and_its_faults_are_told(capsys, tmp_path) -> None:
    for number in range(3):
        Image.new("RGB", (64, 96 + number), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"")
    assert main(["plan", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "3 images" in out
    assert "skipped broken.png: the file is empty" in out
    assert "Warning: Few images (3)" in out


def test_bad_values_are_refused(capsys) -> None:
    assert main(["plan", "12", "--set", "colour=red"]) == 2
    assert main(["plan", "12", "--set", "rank=many"]) == 2
    assert main(["plan", "12", "--optimizer", "nosuch"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert "does not know colour" in first
    assert "rank must be a whole number" in second
    assert "unknown optimizer 'nosuch'" in third
