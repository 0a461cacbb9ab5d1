"""Chunks hold the same numbers as the tensors they stand for."""

import pytest
import torch
from materials import SHAPES, make_params, set_grads

from trustopt.optim.chunks import Chunk, Slot, as_matrix, build_chunks, row_width
from trustopt.optim.scratch import Scratch

WITHOUT_EMPTY = [shape for shape in SHAPES if 0 not in shape]


def one_chunk(dtype: torch.dtype = torch.float32) -> Chunk:
    (chunk,) = build_chunks(make_params(WITHOUT_EMPTY, dtype))
    return chunk


def test_cuts_at_the_limit_and_between_kinds() -> None:
    params = make_params([(10, 10)] * 5) + make_params([(10, 10)], torch.bfloat16)
    sizes = [len(chunk.params) for chunk in build_chunks(params, limit=250)]
    assert sorted(sizes) == [1, 1, 2, 2]
    assert all(len({p.dtype for p in c.params}) == 1 for c in build_chunks(params, limit=10**6))


def test_a_tensor_above_the_limit_is_a_chunk_of_its_own() -> None:
    chunks = build_chunks(make_params([(10, 10), (2, 2)]), limit=50)
    assert [len(chunk.params) for chunk in chunks] == [1, 1]


@pytest.mark.parametrize(
    ("shapes", "width"),
    [
        ([(16, 640), (1280, 16)], 2048),  # the LoRA set pads nothing
        ([(2, 80), (2, 256)], 32),
        ([(6,), (6,)], 6),
        ([(6,), (70,)], 32),
        ([(4099,)], 32),
    ],
)
def test_row_width(shapes: list[tuple[int, ...]], width: int) -> None:
    assert row_width(make_params(shapes)) == width


def test_gather_and_subtract_go_through_every_element() -> None:
    chunk, scratch = one_chunk(), Scratch()
    before = [p.data.clone() for p in chunk.params]
    grads = [torch.randn_like(p) for p in chunk.params]
    set_grads(chunk.params, grads)
    with torch.no_grad():
        chunk.gather(scratch).mul_(2.0)
        chunk.subtract(scratch, step=0.5, decay=0.9)
    for p, b, g in zip(chunk.params, before, grads, strict=True):
        torch.testing.assert_close(p.data, 0.9 * b - g)


def test_totals_and_means_are_each_tensors_own() -> None:
    chunk, scratch = one_chunk(), Scratch()
    set_grads(chunk.params, [torch.randn_like(p) for p in chunk.params])
    flat = chunk.gather(scratch)
    sums = chunk.total(flat.sum(1, keepdim=True))
    assert sums.shape == (len(chunk.params), 1)
    torch.testing.assert_close(sums.view(-1), torch.stack([p.grad.sum() for p in chunk.params]))


def test_padding_takes_no_part() -> None:
    chunk = one_chunk()
    assert chunk.is_padded
    ones = torch.ones(chunk.num_rows, chunk.width)
    counts = chunk.total(chunk.without_padding(ones).sum(1, keepdim=True))
    assert torch.equal(counts, chunk.numels)


@pytest.mark.parametrize("shapes", [WITHOUT_EMPTY, [(4, 8), (4, 8), (4, 8)]])
def test_spread_undoes_nothing(shapes: list[tuple[int, ...]]) -> None:
    (chunk,) = build_chunks(make_params(shapes))
    numbers = torch.arange(2.0 * len(shapes)).view(-1, 2)
    rows = chunk.spread(numbers)
    assert rows.shape == (chunk.num_rows, 2)
    for view, number in zip(
        chunk.place(rows[:, :1].expand(-1, chunk.width).contiguous()), numbers, strict=True
    ):
        assert (view == number[0]).all()


def test_stacks_see_the_tensors_as_matrices() -> None:
    chunk, scratch = one_chunk(), Scratch()
    set_grads(chunk.params, [torch.randn_like(p) for p in chunk.params])
    chunk.gather(scratch)
    matrices = [m for batch in scratch.stacks("update", chunk) for m in batch]
    for p, matrix in zip(chunk.params, matrices, strict=True):
        assert torch.equal(matrix.reshape(p.shape), p.grad)


def test_factors_have_upstreams_shapes() -> None:
    params = make_params([(4, 8), (3, 2, 3, 3), (4, 8)])
    (chunk,) = build_chunks(params)
    state: dict = {p: {} for p in params}
    chunk.bind(state, {"r": Slot("row"), "c": Slot("column")})
    assert state[params[0]]["r"].shape == (4, 1)
    assert state[params[1]]["r"].shape == (3, 1, 1, 1)
    assert state[params[1]]["c"].shape == (1, 2, 3, 3)
    chunk["c"].copy_(torch.arange(chunk["c"].numel()))
    columns = [c for batch in chunk.stack_factors(chunk["c"], "column") for c in batch]
    for p, c in zip(chunk.params, columns, strict=True):
        assert torch.equal(c.reshape(-1), state[p]["c"].reshape(-1))
        assert c.shape == (1, as_matrix(p.shape)[1])


def test_binding_keeps_values_and_notices_a_stranger() -> None:
    params = make_params([(4, 8), (6,)])
    state: dict = {p: {"m": torch.full_like(p, 7.0)} for p in params}
    (chunk,) = build_chunks(params)
    slots = {"m": Slot("element"), "n": Slot("tensor", torch.int8)}
    chunk.bind(state, slots)
    assert all((state[p]["m"] == 7.0).all() for p in params)
    assert state[params[0]]["n"].dtype == torch.int8
    assert chunk.is_bound(state)
    state[chunk.params[0]]["m"] = torch.zeros_like(chunk.params[0])
    assert not chunk.is_bound(state)


def test_any_memory_layout_will_do() -> None:
    p = torch.nn.Parameter(torch.randn(3, 4, 5, 5).to(memory_format=torch.channels_last))
    p.grad = torch.randn(3, 4, 5, 5)
    before = p.data.clone()
    (chunk,) = build_chunks([p])
    scratch = Scratch()
    with torch.no_grad():
        chunk.gather(scratch)
        chunk.subtract(scratch)
    assert torch.equal(p.data, before - p.grad)


def test_random_rounding_is_right_on_average() -> None:
    scratch = Scratch(stochastic_seed=0)
    value = 1.0 + 2**-10  # an eighth of the way from 1 to the next bfloat16
    flat = torch.full((100_000,), value)
    scratch.round_for(torch.bfloat16, flat)
    assert set(flat.unique().tolist()) == {1.0, 1.0 + 2**-7}
    assert float(flat.mean()) == pytest.approx(value, abs=5e-5)
