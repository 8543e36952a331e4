"""The fast linear layer against the exact one."""

from __future__ import annotations

import pytest
import torch

from vbot_campaign.rl.linear import _HAS_ONEDNN, Linear


@pytest.mark.parametrize(("inputs", "outputs"), [(54, 256), (256, 128), (64, 12), (64, 1)])
@pytest.mark.parametrize("batch", [1, 7, 1024])
def test_results_and_gradients_are_those_of_torch(batch: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    layer = Linear(inputs, outputs)
    rows, weights = torch.randn(batch, inputs), torch.randn(batch, outputs)
    exact = torch.nn.Linear(inputs, outputs).double()
    exact.load_state_dict(layer.state_dict())

    ours, theirs = rows.clone().requires_grad_(), rows.double().requires_grad_()
    (layer(ours) * weights).sum().backward()
    (exact(theirs) * weights).sum().backward()

    for found, expected in [
        (layer(rows), exact(rows.double())),
        (ours.grad, theirs.grad),
        (layer.weight.grad, exact.weight.grad),
        (layer.bias.grad, exact.bias.grad),
    ]:
        assert found is not None
        assert expected is not None
        assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_the_fast_kernel_is_there() -> None:
    # Without it everything still works at half the speed; a new version of torch must not lose it unnoticed.
    assert _HAS_ONEDNN or not torch.backends.mkldnn.is_available()


def test_other_types_take_the_way_of_torch() -> None:
    layer, rows = Linear(5, 3).double(), torch.randn(4, 5, dtype=torch.float64)

    assert torch.equal(layer(rows), torch.nn.functional.linear(rows, layer.weight, layer.bias))
