from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trustopt.data.order import BatchOrder, Entry


def order(entries, batch_size=2, repeats=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return BatchOrder(entries, batch_size, repeats=repeats, generator=generator)


def take(source, count):
    return [source.next() for _ in range(count)]


def used(batches):
    return Counter(pick.sample for batch in batches for pick in batch.picks)


def test_every_picture_is_used_equally_often():
    entries = [
        Entry(("square",), 1),
        Entry(("square",), 3),
        Entry(("square",), 1),
        Entry(("wide",)),
    ]
    source = order(entries, repeats=2)  # 12 pictures an epoch, 10 square and 2 wide: 6 full batches

    for _ in range(4):
        assert used(take(source, 6)) == {0: 2, 1: 6, 2: 2, 3: 2}


def test_left_over_pictures_come_in_the_next_epoch():
    entries = [Entry(("square",))] * 3 + [Entry(("wide",))]
    source = order(entries)  # 4 an epoch: one square batch, one square and one wide left over

    batches = take(source, 4)  # two epochs: 6 square, 2 wide

    assert used(batches) == {0: 2, 1: 2, 2: 2, 3: 2}
    assert source.epoch == 2


def test_a_batch_is_of_one_bucket_and_full():
    entries = [Entry((("square", "wide", "tall")[i % 3],)) for i in range(10)]

    for batch in take(order(entries, batch_size=3), 50):
        assert len(batch.picks) == 3
        assert len({entries[pick.sample].groups[pick.view] for pick in batch.picks}) == 1


@given(
    repeats=st.lists(st.integers(1, 3), min_size=3, max_size=12),
    num_buckets=st.integers(1, 5),
    batch_size=st.integers(1, 3),
    count=st.integers(1, 60),
)
def test_nothing_is_lost_or_repeated(repeats, num_buckets, batch_size, count):
    entries = [Entry((i % num_buckets,), n) for i, n in enumerate(repeats)]
    source = order(entries, batch_size)

    seen = used(take(source, count))

    state = source.state_dict()
    cursor = state["position"][1]
    rest = Counter(row[0] for row in state["picks"][cursor:].tolist() + state["waiting"].tolist())
    assert seen + rest == {i: n * source.epoch for i, n in enumerate(repeats)}


def test_views_take_turns():
    entries = [Entry(("large", "small", "large")) for _ in range(4)]
    source = order(entries, batch_size=1)

    first, second, third = (take(source, 4) for _ in range(3))

    for sample in range(4):
        views = [
            p.view
            for epoch in (first, second, third)
            for b in epoch
            for p in b.picks
            if p.sample == sample
        ]
        assert sorted(views) == [0, 1, 2]
    assert len({b.picks[0].view for b in first}) > 1  # an epoch is a mix of views


def test_epochs_are_shuffled_and_depend_on_the_seed_alone():
    entries = [Entry(("square",)) for _ in range(8)]
    source = order(entries)

    first, second = take(source, 4), take(source, 4)

    assert [b.picks for b in first] != [b.picks for b in second]
    assert first + second == take(order(entries), 8)
    assert first != take(order(entries, seed=1), 4)
    assert len({b.seed for b in first + second}) == 8


@pytest.mark.parametrize("position", range(9))
def test_resumes_bit_for_bit_anywhere(position):
    entries = [Entry((("square", "wide")[i % 2], "small"), 1 + i % 3) for i in range(5)]
    entries += [Entry(("square",), is_regularisation=True) for _ in range(3)]
    source = order(entries)
    take(source, position)
    state = source.state_dict()
    expected = take(source, 40)

    resumed = order(entries, seed=99)
    resumed.load_state_dict({name: tensor.clone() for name, tensor in state.items()})

    assert take(resumed, 40) == expected
    assert resumed.epoch == source.epoch


def test_a_state_does_not_change_as_the_order_goes_on():
    source = order([Entry(("square",)) for _ in range(5)])
    take(source, 2)
    state = source.state_dict()
    copy = {name: tensor.clone() for name, tensor in state.items()}

    take(source, 20)

    assert all(torch.equal(state[name], copy[name]) for name in copy)


def test_another_set_cannot_be_resumed():
    state = order([Entry(("square",))] * 4).state_dict()

    with pytest.raises(
        ValueError, match="of 4 images, 4 an epoch, batch size 2; now there are 5, 5"
    ):
        order([Entry(("square",))] * 5).load_state_dict(state)
    with pytest.raises(ValueError, match="batch size 2"):
        order([Entry(("square",))] * 4, batch_size=1).load_state_dict(state)


def test_regularisation_pictures_are_half_of_an_epoch_and_never_mixed_in():
    entries = [Entry(("square",), 2) for _ in range(3)]
    entries += [Entry(("square",), is_regularisation=True) for _ in range(4)]
    source = order(entries, batch_size=2)  # 6 + 6 an epoch

    batches = take(source, 12)

    assert source.pictures_per_epoch == 12
    counts = used(batches)
    assert [counts[i] for i in range(3)] == [4, 4, 4]
    assert [counts[i] for i in range(3, 7)] == [3, 3, 3, 3]  # 12 among 4, over two epochs
    for batch in batches:
        assert len({entries[pick.sample].is_regularisation for pick in batch.picks}) == 1


def test_a_batch_larger_than_the_set_names_the_largest_possible():
    with pytest.raises(
        ValueError, match=r"batch_size 4 needs as many images, and there are 3.*to 3"
    ):
        order([Entry(("square",))] * 3, batch_size=4)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        order([Entry(("square",))], batch_size=0)
    with pytest.raises(ValueError, match="repeats"):
        order([Entry(("square",))] * 2, repeats=0)
