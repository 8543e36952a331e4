"""Episodes that are played side by side: each robot's first one, whole, whatever the others do meanwhile."""

from __future__ import annotations

import numpy as np
import pytest

from tests.playback.test_record import constant_policy, training
from vbot_campaign.playback.record import Episode, record_side_by_side
from vbot_campaign.spec.outcomes import Outcome


def play(action: float, episodes: int = 3, **env: float) -> list[Episode]:
    return record_side_by_side(constant_policy(action), training(**env), episodes=episodes, seed=4)


def test_every_robot_has_its_own_episode_from_its_own_place() -> None:
    episodes = play(0.0, episode_seconds=1.0)

    assert [(e.outcome, e.seconds, e.arrived_s) for e in episodes] == [(Outcome.TIMED_OUT, 1.0, None)] * 3
    for episode in episodes:
        assert episode.positions.shape == (101, 19)
        assert episode.velocities.shape == (101, 18)
        assert episode.actions.shape == episode.torques.shape == (100, 12)
        assert episode.rewards.shape == (100,)
        assert 2.0 <= episode.distance[0] <= 5.0
        assert episode.positions[-1, 2] == pytest.approx(0.261, abs=0.01)
    starts = np.stack([episode.positions[0, :2] for episode in episodes])
    assert len(np.unique(starts.round(3), axis=0)) == 3


def test_a_robot_that_ends_early_keeps_its_target_and_its_last_state() -> None:
    episodes = play(25.0)

    assert {episode.outcome for episode in episodes} == {Outcome.FELL_BEFORE}
    for episode in episodes:
        assert len(episode.actions) < 100
        jump = np.linalg.norm(np.diff(episode.positions[:, :2], axis=0), axis=1)
        assert jump.max() < 0.2, "the last state is where it fell, not where it began again"
        assert len(episode.positions) == len(episode.actions) + 1
        assert 2.0 <= episode.distance[0] <= 5.0, "measured from the target of this episode"
