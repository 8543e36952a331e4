"""PyTorch's Adam, without PyTorch's compiler."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.optim import Adam, Optimizer


class EagerAdam(Adam):
    """`torch.optim.Adam`, whose methods do not load ``torch._dynamo``.

    PyTorch wraps the methods of its optimizers so that its compiler leaves them alone, and loads the whole compiler at
    the first call: some two seconds and 80 MB in every worker, for code that is never compiled. These are the same
    methods without the wrappers.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    _step = staticmethod(inspect.unwrap(Adam.step))

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step; see `torch.optim.Adam.step`."""
        return self._step(self, closure)
