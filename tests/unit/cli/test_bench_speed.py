import pytest

from trustopt.cli import bench_speed
from trustopt.cli.growth import Point, points
from trustopt.cli.start_up import STAGES


def test_the_report_holds_every_section_as_it_was_printed(tmp_path, capsys):
    file = tmp_path / "report.md"

    assert bench_speed.main(["--quick", "--out", str(file)]) == 0

    printed, report = capsys.readouterr().out, file.read_text()
    for title in bench_speed.sections(bench_speed.QUICK, "cpu"):
        assert f"== {title}" in printed
        body = report.split(f"## {title}\n\n```\n")[1].split("\n```")[0]
        assert body in printed
    growth = report.split("## Growth")[1].split("```")[1].strip().splitlines()
    lines = [line.split() for line in growth if line.strip()[0].isdigit()]
    settings = [(p.batch, p.rank, p.pixels) for p in points(Point(pixels=64))]
    assert [tuple(map(int, line[:3])) for line in lines] == settings
    assert float(lines[2][-1]) > float(lines[0][-1])  # four pictures need more memory than one
    assert all(f"\n{stage} " in report for stage in STAGES)


def test_a_report_that_cannot_be_written_is_refused_first(tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench_speed.main(["--quick", "--out", str(tmp_path / "none" / "report.md")])
    told = capsys.readouterr()
    assert told.out == ""
    assert "there is no folder" in told.err
