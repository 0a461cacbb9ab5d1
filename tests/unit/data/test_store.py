import pytest
import torch

from trustopt.data.store import TensorStore

GROUP = {"mean": torch.arange(6.0).reshape(2, 3), "half": torch.ones(4, dtype=torch.bfloat16)}


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    return TensorStore(tmp_path / "cache" if request.param == "disk" else None)


def test_keeps_tensors_with_dtype_and_shape(store):
    assert store.shapes("a") is None

    store.save("a", GROUP, {})

    assert store.shapes("a") == {"mean": (2, 3), "half": (4,)}
    loaded = store.load("a")
    assert loaded["half"].dtype == torch.bfloat16
    assert torch.equal(loaded["mean"], GROUP["mean"])


def test_views_of_one_tensor_are_kept_apart(store):
    base = torch.arange(8.0)

    store.save("a", {"all": base, "again": base, "half": base[4:], "turned": base.view(2, 4).T}, {})

    loaded = store.load("a")
    assert torch.equal(loaded["again"], base)
    assert torch.equal(loaded["half"], base[4:])
    assert torch.equal(loaded["turned"], base.view(2, 4).T)
    assert loaded["half"].untyped_storage().data_ptr() != base.untyped_storage().data_ptr()


def test_files_serve_the_next_process_and_leave_nothing_else(tmp_path):
    TensorStore(tmp_path).save("a", GROUP, {"caption": "a cat"})

    assert torch.equal(TensorStore(tmp_path).load("a")["mean"], GROUP["mean"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_a_damaged_file_counts_as_absent(tmp_path, content, caplog):
    store = TensorStore(tmp_path)
    store.save("a", GROUP, {})
    path = tmp_path / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-3] if content is None else content)

    assert store.shapes("a") is None
    assert "a.safetensors is damaged" in caplog.text
    with pytest.raises(ValueError, match="start the run again"):
        store.load("a")


def test_a_vanished_file_is_named(tmp_path):
    store = TensorStore(tmp_path)
    store.save("a", GROUP, {})
    (tmp_path / "a.safetensors").unlink()

    with pytest.raises(ValueError, match="leave the cache folder alone while training"):
        store.load("a")


def test_a_disk_that_refuses_leaves_tensors_in_memory(tmp_path, caplog):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    store = TensorStore(blocked)

    store.save("a", GROUP, {})

    assert torch.equal(store.load("a")["mean"], GROUP["mean"])
    assert store.shapes("a") == {"mean": (2, 3), "half": (4,)}
    assert "kept in memory" in caplog.text


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, monkeypatch, caplog):
    def write_half(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trustopt.data.store.save_file", write_half)
    store = TensorStore(tmp_path)

    store.save("a", GROUP, {})

    assert not list(tmp_path.iterdir())
    assert torch.equal(store.load("a")["mean"], GROUP["mean"])
    assert "No space left" in caplog.text
