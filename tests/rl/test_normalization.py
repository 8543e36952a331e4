"""Running normalization, by hand."""

from __future__ import annotations

import pytest
import torch

from vbot_campaign.rl.normalization import RunningNormalizer


def test_statistics_start_as_one_sample_and_merge_by_hand() -> None:
    normalizer = RunningNormalizer(1)

    normalizer.update(torch.tensor([[2.0], [4.0], [6.0]]))

    # One sample of mean 0, variance 1 and three of mean 4, variance 8/3:
    # mean 12/4 = 3; squares 1*1 + 3*8/3 + 4^2 * 1*3/4 = 21; variance 21/4.
    assert normalizer.running_mean.item() == 3.0
    assert normalizer.running_variance.item() == 5.25
    assert normalizer.current_count.item() == 4.0


def test_normalize_by_hand_and_back() -> None:
    normalizer = RunningNormalizer(2)
    normalizer.load_state_dict(
        {
            "running_mean": torch.tensor([1.0, -2.0]),
            "running_variance": torch.tensor([4.0, 0.25]),
            "current_count": torch.tensor(10.0),
        }
    )

    normal = normalizer.normalize(torch.tensor([[5.0, -1.0], [0.0, -2.25]]))

    torch.testing.assert_close(normal, torch.tensor([[2.0, 2.0], [-0.5, -0.5]]))
    torch.testing.assert_close(normalizer.denormalize(normal), torch.tensor([[5.0, -1.0], [0.0, -2.25]]))


def test_both_directions_stop_at_five_deviations() -> None:
    normalizer = RunningNormalizer(1)

    assert normalizer.normalize(torch.tensor([[99.0], [-99.0]])).flatten().tolist() == [5.0, -5.0]
    assert normalizer.denormalize(torch.tensor([[99.0], [-99.0]])).flatten().tolist() == [5.0, -5.0]


def test_many_small_updates_equal_one_large_one() -> None:
    torch.manual_seed(0)
    samples = 1000 + torch.randn(60, 4, 3, dtype=torch.float64)
    pieces, whole = RunningNormalizer(3), RunningNormalizer(3)

    for piece in samples:
        pieces.update(piece)
    whole.update(samples)

    for name, value in whole.state_dict().items():
        torch.testing.assert_close(pieces.state_dict()[name], value, rtol=1e-12, atol=0)


def test_float32_samples_keep_float64_statistics() -> None:
    normalizer = RunningNormalizer(1)

    for _ in range(3):
        normalizer.update(torch.full((1000, 1), 16_777_217.0, dtype=torch.float32))

    assert normalizer.running_mean.dtype == torch.float64
    assert normalizer.normalize(torch.zeros(2, 1)).dtype == torch.float32
    # 3000 samples of 2^24 and one of zero.
    assert normalizer.running_mean.item() == pytest.approx(3000 * 2**24 / 3001, rel=1e-12)


def test_a_frozen_normalizer_keeps_its_statistics() -> None:
    normalizer = RunningNormalizer(2, frozen=True)

    normalizer.update(torch.full((5, 2), 7.0))

    assert normalizer.running_mean.tolist() == [0.0, 0.0]
    assert normalizer.current_count.item() == 1.0


def test_statistics_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="48 numbers where 54"):
        RunningNormalizer(54).load_state_dict(RunningNormalizer(48).state_dict())
