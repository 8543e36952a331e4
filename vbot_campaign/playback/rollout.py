"""``python -m vbot_campaign.playback.rollout TRIAL_DIR CHECKPOINT OUT_DIR [--gif]``: pictures of a trial's policy.

Writes what `TrialPaths.path_plot` and `TrialPaths.rollout` name to ``OUT_DIR``. A process of its own, because a driver
that cannot draw may end the process that asks it to, and because mujoco picks its OpenGL when it is loaded.

Exit code 0 means that all was written; 2 that only the plot could be, for a reason that was printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vbot_campaign.errors import CampaignError, RenderingUnavailableError
from vbot_campaign.paths import TrialPaths

EPISODES = 4
"""Episodes of the plot; the first of them is the film."""


def main(arguments: list[str]) -> int:
    """Draw, and return the exit code."""
    trial, checkpoint, out = (Path(argument) for argument in arguments[:3])
    missing = _prepare() if "--gif" in arguments else None
    try:
        draw(TrialPaths(trial), checkpoint, TrialPaths(out), film="--gif" in arguments and missing is None)
    except CampaignError as error:
        missing = missing or str(error)
    if missing is not None:
        print(f"no film of the policy: {missing}", file=sys.stderr)
    return 0 if missing is None else 2


def draw(trial: TrialPaths, checkpoint: Path, out: TrialPaths, *, film: bool) -> None:
    """Play a few episodes under the settings that a trial was trained with, and draw them.

    Args:
        trial: The trial's folder, for its ``trial.json``.
        checkpoint: The policy.
        out: Folder to write to.
        film: Draw the first episode as a film too. Call `opengl.prepare_rendering` before.

    Raises:
        CampaignError: The policy cannot be played, or nothing can be drawn.
    """
    import torch

    from vbot_campaign.playback.path_plot import save_path_plot
    from vbot_campaign.playback.record import record_side_by_side
    from vbot_campaign.rl.importers import load_for
    from vbot_campaign.spec.loading import read_trial_spec

    torch.set_num_threads(1)
    training = read_trial_spec(trial.spec).training
    loaded = load_for(checkpoint, training.environment)
    episodes = record_side_by_side(loaded, training, episodes=EPISODES, seed=training.evaluation.seed)
    save_path_plot(out.path_plot, episodes)
    if film:
        from vbot_campaign.playback.video import Format, write_video

        # Half as many pictures as a film that is asked for: every trial has one, and the next waits for its slot.
        write_video(out.rollout, episodes[:1], Format(320, 240, 10))


def _prepare() -> str | None:
    from vbot_campaign.playback.opengl import prepare_rendering

    try:
        prepare_rendering()
    except RenderingUnavailableError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
