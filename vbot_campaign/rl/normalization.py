"""Running normalization of observations and values."""

from __future__ import annotations

from collections.abc import Mapping

import torch

EPSILON = 1e-8
LIMIT = 5.0


class RunningNormalizer:
    """Scales numbers by the mean and variance of everything seen so far.

    Statistics are float64 under the names that skrl gives them. They start as one sample of mean 0 and variance 1.

    Args:
        size: Numbers per sample.
        device: Where the statistics live.
        frozen: Keep the statistics as they are; `update` does nothing.
    """

    def __init__(self, size: int, device: torch.device | str = "cpu", *, frozen: bool = False) -> None:
        self.running_mean = torch.zeros(size, dtype=torch.float64, device=device)
        self.running_variance = torch.ones(size, dtype=torch.float64, device=device)
        self.current_count = torch.ones((), dtype=torch.float64, device=device)
        self.frozen = frozen
        self.limit = LIMIT
        """Normalized numbers are clipped to plus and minus this; infinite with the statistics of a policy of rsl_rl."""

    @property
    def size(self) -> int:
        """Numbers per sample."""
        return self.running_mean.shape[0]

    def update(self, samples: torch.Tensor) -> None:
        """Take samples into the statistics, by the parallel algorithm of Chan, Golub and LeVeque (1979).

        Args:
            samples: (..., size).
        """
        if self.frozen:
            return
        rows = samples.reshape(-1, self.size).double()
        variance, mean = torch.var_mean(rows, dim=0, correction=0)
        seen, new = self.current_count, rows.shape[0]
        total = seen + new
        delta = mean - self.running_mean
        squares = self.running_variance * seen + variance * new + delta.square() * (seen * new / total)
        self.running_mean = self.running_mean + delta * (new / total)
        self.running_variance = squares / total
        self.current_count = total

    def normalize(self, samples: torch.Tensor) -> torch.Tensor:
        """Return ``(samples - mean) / (sqrt(variance) + 1e-8)`` within the limit, of the samples' shape and type."""
        mean, deviation = self._moments(samples.dtype)
        return ((samples - mean) / (deviation + EPSILON)).clamp_(-self.limit, self.limit)

    def denormalize(self, samples: torch.Tensor) -> torch.Tensor:
        """Return normalized samples, taken within the limit, in their natural units."""
        mean, deviation = self._moments(samples.dtype)
        return torch.addcmul(mean, samples.clamp(-self.limit, self.limit), deviation)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the statistics under skrl's names, and ``limit`` where it is not skrl's."""
        state = {
            "running_mean": self.running_mean,
            "running_variance": self.running_variance,
            "current_count": self.current_count,
        }
        return state if self.limit == LIMIT else {**state, "limit": torch.tensor(self.limit, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over the statistics of another normalizer.

        Raises:
            ValueError: They are of another size.
        """
        if state["running_mean"].numel() != self.size:
            raise ValueError(f"statistics of {state['running_mean'].numel()} numbers where {self.size} are expected")
        own = self.running_mean
        self.running_mean = state["running_mean"].reshape(-1).to(own, copy=True)
        self.running_variance = state["running_variance"].reshape(-1).to(own, copy=True)
        self.current_count = state["current_count"].reshape(()).to(own, copy=True)
        self.limit = float(state["limit"]) if "limit" in state else LIMIT

    def _moments(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        return self.running_mean.to(dtype), self.running_variance.to(dtype).sqrt()
