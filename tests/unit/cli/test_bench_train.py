import pytest

from trustopt.cli import bench_train
from trustopt.hosts.tiny.specs import FLUX, SDXL


@pytest.mark.parametrize(("family", "model"), [("sdxl", SDXL), ("flux", FLUX)])
def test_a_step_is_compared_with_a_plain_loop(family, model, monkeypatch, capsys):
    monkeypatch.setattr(bench_train, "LAYOUTS", {family: model.unet})
    monkeypatch.setattr(bench_train, "FLUX_TOKENS", 8)
    arguments = ["--model", family, "--pixels", "64", "--batches", "2", "--rounds", "1"]

    assert bench_train.main(arguments) == 0

    _, header, plain, recomputed, gradient = capsys.readouterr().out.splitlines()
    columns = header.split()
    assert columns[:2] == ["batch", "checkpointing"]
    assert [plain.split()[:2], recomputed.split()[:2]] == [["2", "off"], ["2", "on"]]
    without, with_it = (float(line.split()[6]) for line in (plain, recomputed))
    assert 0.0 < with_it <= without
    assert float(gradient.split()[-4]) <= 1e-6
