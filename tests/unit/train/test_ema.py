"""Mirrors trustopt/train/ema.py against the formula."""

import torch

from trustopt.train.ema import ExponentialAverage


def test_the_average_by_hand() -> None:
    parameter = torch.tensor([1.0, 2.0])
    average = ExponentialAverage([parameter], decay=0.9)
    expected = [1.0, 2.0]
    for update in range(1, 200):
        parameter.add_(1.0)
        average.update([parameter])
        decay = min(0.9, (1 + update) / (10 + update))  # 2/11, 3/12, ... and 0.9 from the 80th on
        expected = [
            decay * e + (1 - decay) * p for e, p in zip(expected, parameter.tolist(), strict=True)
        ]
    torch.testing.assert_close(average.averages[0], torch.tensor(expected))
    assert average.updates == 199


def test_swapping_twice_gives_both_back() -> None:
    parameter = torch.tensor([1.0])
    average = ExponentialAverage([parameter], decay=0.5)
    parameter.fill_(3.0)
    average.update([parameter])
    averaged = average.averages[0].clone()
    average.swap([parameter])
    assert torch.equal(parameter, averaged)
    average.swap([parameter])
    assert parameter.item() == 3.0
    assert torch.equal(average.averages[0], averaged)


def test_a_restart_forgets() -> None:
    parameter = torch.tensor([1.0])
    average = ExponentialAverage([parameter], decay=0.5)
    parameter.fill_(3.0)
    average.update([parameter])
    average.restart([parameter])
    assert (average.updates, average.averages[0].item()) == (0, 3.0)
    parameter.fill_(5.0)
    assert average.averages[0].item() == 3.0  # a copy, as at the start
