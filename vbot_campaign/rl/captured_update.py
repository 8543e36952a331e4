"""Records an update once and replays it: a CUDA graph takes one launch where an update takes thousands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import torch

from vbot_campaign.rl.rollout import Batch

Work = Callable[[], torch.Tensor]
"""Reads and writes the same tensors in every call, and returns the same one."""
Capture = Callable[[Work, torch.device], Work]
"""Does work on a device once, to warm up, and returns what repeats it."""
Run = Callable[[Batch, Sequence[torch.Tensor]], torch.Tensor]
"""An update: a batch and the order of its transitions in each epoch in, numbers on the device out."""


def capture_cuda_graph(work: Work, device: torch.device) -> Work:
    """Record work on a GPU as a graph (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).

    Only kernels are recorded, so the work must not wait for the device.
    """
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()  # libraries set themselves up at their first call, which cannot be recorded
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            result = work()

    def replay() -> torch.Tensor:
        graph.replay()
        return result

    return replay


class CapturedUpdate:
    """An update on tensors of its own, into which every new batch is copied.

    Making it trains nothing: what the warm-up changed is put back.

    Args:
        run: The update.
        batch: A batch of the size of all others.
        orders: The order of its transitions in each epoch, (learning_epochs, batch).
        state: Returns all tensors that the update changes in place. One that the warm-up made begins at zero, as the
            moments of Adam do.
        capture: Records the update.

    Raises:
        RuntimeError: It cannot be recorded; nothing was changed.
    """

    def __init__(
        self,
        run: Run,
        batch: Batch,
        orders: torch.Tensor,
        state: Callable[[], Sequence[torch.Tensor]],
        capture: Capture,
    ) -> None:
        self._batch = Batch(*(getattr(batch, field.name).clone() for field in fields(batch)))
        self._orders = orders.clone()
        before = {tensor: tensor.detach().clone() for tensor in state()}
        try:
            self._replay = capture(lambda: run(self._batch, self._orders.unbind()), orders.device)
        finally:
            _put_back(before, state())

    def replay(self, batch: Batch, orders: torch.Tensor) -> torch.Tensor:
        """Run the update on a batch and return its numbers, which are valid until the next call."""
        for field in fields(batch):
            getattr(self._batch, field.name).copy_(getattr(batch, field.name))
        self._orders.copy_(orders)
        return self._replay()


@torch.no_grad()
def _put_back(before: dict[torch.Tensor, torch.Tensor], state: Sequence[torch.Tensor]) -> None:
    for tensor in state:
        if tensor in before:
            tensor.copy_(before[tensor])
        else:
            tensor.zero_()
