"""Adam without PyTorch's compiler is PyTorch's Adam, bit for bit."""

from __future__ import annotations

import subprocess
import sys

import torch

from vbot_campaign.rl.adam import EagerAdam

TRAIN = """
import sys
import torch
from vbot_campaign.rl.adam import EagerAdam
weight = torch.nn.Parameter(torch.ones(3))
optimizer = EagerAdam([weight], lr=torch.tensor(0.1), fused=True)
for _ in range(2):
    optimizer.zero_grad(set_to_none=True)
    (weight**2).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
assert weight.max() < 1.0
assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
"""


def train(kind: type[torch.optim.Adam], steps: int) -> tuple[torch.Tensor, torch.optim.Adam]:
    generator = torch.Generator().manual_seed(7)
    weight = torch.nn.Parameter(torch.randn(5, 3, generator=generator))
    optimizer = kind([weight], lr=torch.tensor(0.01, dtype=torch.float64), eps=1e-8, fused=True)
    for step in range(steps):
        if step == steps // 2:
            optimizer.load_state_dict(optimizer.state_dict())
        optimizer.zero_grad(set_to_none=True)
        (weight @ torch.randn(3, generator=generator)).square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return weight.detach(), optimizer


def test_it_takes_the_same_steps_and_has_the_same_state() -> None:
    (mine, eager), (theirs, adam) = train(EagerAdam, 20), train(torch.optim.Adam, 20)
    assert torch.equal(mine, theirs)
    left, right = eager.state_dict(), adam.state_dict()
    assert left["param_groups"] == right["param_groups"]
    assert left["state"].keys() == right["state"].keys()
    assert left["state"][0].keys() == right["state"][0].keys()
    for name, value in left["state"][0].items():
        assert torch.equal(value, right["state"][0][name]), name


def test_the_compiler_is_not_loaded() -> None:
    subprocess.run([sys.executable, "-c", TRAIN], check=True, timeout=240)
