"""A policy that a training starts from, as plain values, and whether its networks are the ones to be trained."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from vbot_campaign.spec.training import Part, PpoSettings

LAYER_SIZES = ("policy_hidden_layer_sizes", "value_hidden_layer_sizes")


@dataclass(frozen=True)
class StartingPolicy:
    """A policy that fits its environment."""

    path: str
    """The file, absolute."""
    sha256: str
    bytes: int
    env_steps: int | None
    """Transitions it was trained for; None in files of other programs."""
    policy_hidden_layer_sizes: tuple[int, ...]
    value_hidden_layer_sizes: tuple[int, ...]

    def misfit(
        self, ppo: PpoSettings, load: Collection[Part] = ("policy", "value")
    ) -> tuple[str, list[int], list[int]] | None:
        """Return the setting, its value in the file and its value in ``ppo`` where the networks differ, or None.

        Args:
            ppo: Settings of the training that starts there.
            load: What it takes over; only these networks must fit.
        """
        for name in LAYER_SIZES:
            if name.partition("_")[0] not in load:
                continue
            found, wanted = list(getattr(self, name)), list(getattr(ppo, name))
            if found != wanted:
                return name, found, wanted
        return None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StartingPolicy:
        """Return the policy of `as_dict`, also after a way through JSON, which knows no tuples."""
        sizes = {name: tuple(values[name]) for name in LAYER_SIZES}
        return cls(**{**values, **sizes})
