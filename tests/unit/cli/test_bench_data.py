from trustopt.cli.bench_data import bench_batches, bench_loading


def test_a_warm_cache_is_reported_with_no_encoder_call(tmp_path, capsys):
    milliseconds = bench_batches(tmp_path, 2)

    assert milliseconds > 0.0
    said = capsys.readouterr().out
    assert "0 encoder calls (3 the first time)" in said
    # 2 x 16 x 128 x 128 float32 latents; 512 x 4096 bfloat16 and 768 float32 of a prompt.
    assert "2.10 MB a picture, 4.20 MB a caption (1 different ones, 1 encoded)" in said


def test_loading_is_compared_at_three_sizes(tmp_path, capsys):
    bench_loading(tmp_path)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["to 1024", "to  768", "to  512"]
    assert all(float(line.split()[-1].rstrip("x")) > 0.0 for line in lines[1:])
