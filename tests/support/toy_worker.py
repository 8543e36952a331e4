"""A worker that keeps to the protocol and trains nothing: a whole trial takes tenths of a second.

Run on a folder like the real one: ``python toy_worker.py TRIAL_DIR``. Its success rate grows linearly over the
trial up to `quality`, which is 1 at a learning rate of 3e-4 and falls off on both sides.

``TOY_PLAN`` tells chosen attempts to misbehave: JSON of trial number -> attempt number -> behaviour, with ``*`` for
any. Behaviours in the middle of the training: ``kill`` (SIGKILL to itself), ``exit N``, ``hang`` (and deaf to
everything but SIGKILL from the start), ``doze`` (until a SIGTERM), ``freeze`` (SIGSTOP to itself), ``oom kill``
(counts one up in ``TOY_OOM_COUNTER`` as the kernel does, and SIGKILL), ``fenced``, ``sigterm`` (to itself), ``failed``,
``invalid``, ``diverged``, ``out_of_memory``; at the end ``scoreless``; at the start ``exit at start N`` and
``sigterm at start``. It prints its stacks on SIGUSR1.
Behaviours of the whole curve: ``collapse`` (the success falls from the middle on), ``gamed`` (and the reward rises all
the same), ``lazy`` (no step towards the goal, ever), ``slow`` (half a second for each iteration). ``collapse held``
collapses and waits shortly before the end until it is asked to stop.
``TOY_ITERATION_S`` is the duration of an iteration. ``TOY_HOLD`` names a file with the number of an iteration: while it
is there, a worker stands still from that one on. With ``TOY_PATIENT`` it does so at each point where it reports, until
the supervisor has written that down: by the next one it has been told what that led to. Neither keeps it from stopping
when it is asked to. ``TOY_LUCK`` is the share of its success that the unluckiest training seed costs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from vbot_campaign import events, fs
from vbot_campaign.events import Ended, Result
from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.spec.outcomes import EpisodeTotals

EPISODES = 100
CHECKPOINT_EVERY = 5
KEEP_LAST = 2
LONGEST_WAIT_S = 600.0
"""As long as a test may take: a worker that a failed test has left behind ends too."""

_sigterm = False


def main(folder: TrialPaths) -> int:
    """Train the folder's trial, or what is left of it, and return the exit code."""
    signal.signal(signal.SIGTERM, _note_sigterm)
    faulthandler.register(signal.SIGUSR1)
    spec = fs.read_json(folder.spec)
    behaviour = _behaviour(spec)
    if behaviour.startswith("exit at start"):
        time.sleep(_pause(behaviour))
        print("ModuleNotFoundError: No module named 'robots'")
        return int(behaviour.split()[-1])
    with fs.hold_lock(folder.lock, what=str(folder.root)):
        result = _train(folder, spec, behaviour)
        result.write(folder.result)
    return events.EXIT_CODES[result.state]


def quality(parameters: dict[str, Any]) -> float:
    """Return the success rate at the end of a training."""
    return math.exp(-abs(math.log(parameters.get("ppo.learning_rate", 3e-4) / 3e-4)))


def _note_sigterm(number: int, frame: FrameType | None) -> None:
    global _sigterm
    _sigterm = True


def _behaviour(spec: dict[str, Any]) -> str:
    plan = json.loads(os.environ.get("TOY_PLAN", "{}"))
    attempts = plan.get(str(spec["trial"]), plan.get("*", {}))
    return attempts.get(str(spec["attempt"]), attempts.get("*", ""))


def _train(folder: TrialPaths, spec: dict[str, Any], behaviour: str) -> Result:
    training = spec["training"]
    steps = training["num_envs"] * training["ppo"]["rollouts"]
    iteration, before = _resume(folder)
    last = iteration - (before - training["env_steps"]) // steps
    pause = _pause(behaviour)
    begin, env_steps = iteration, before
    if behaviour == "sigterm at start":
        return _result(spec, Ended.STOPPED, "SIGTERM", iteration, env_steps)
    while iteration < last:
        iteration += 1
        env_steps = before + (iteration - begin) * steps
        time.sleep(pause)
        _log_progress(folder, spec, iteration, env_steps, _curve(behaviour, iteration / last))
        if iteration % CHECKPOINT_EVERY == 0 or iteration == last:
            _checkpoint(folder, spec, iteration, env_steps)
        _hold(folder, spec, iteration, env_steps)
        if behaviour == "collapse held" and iteration == last - 2:
            _await_stop(folder, spec)
        if (
            iteration == last // 2 + 1 and behaviour
        ):  # right after a checkpoint, so that a resumed attempt gets here too
            ended = _misbehave(behaviour)
            if ended is not None:
                return _result(spec, ended, "as planned", iteration, env_steps)
        reason = _stop_reason(folder, spec)
        if reason is not None and iteration < last and behaviour != "hang":
            _checkpoint(folder, spec, iteration, env_steps)
            return _result(spec, Ended.STOPPED, reason, iteration, env_steps)
    return _finish(folder, spec, iteration, env_steps, behaviour)


def _pause(behaviour: str) -> float:
    return 0.5 if behaviour == "slow" else float(os.environ.get("TOY_ITERATION_S", "0.01"))


def _hold(folder: TrialPaths, spec: dict[str, Any], iteration: int, env_steps: int) -> None:
    deadline = time.monotonic() + LONGEST_WAIT_S
    while _waits(folder, spec, iteration, env_steps) and _stop_reason(folder, spec) is None:
        if time.monotonic() > deadline:
            raise TimeoutError("nobody let it go on")
        time.sleep(0.01)


def _waits(folder: TrialPaths, spec: dict[str, Any], iteration: int, env_steps: int) -> bool:
    with contextlib.suppress(KeyError, FileNotFoundError):
        if iteration >= int(Path(os.environ["TOY_HOLD"]).read_text()):
            return True
    return "TOY_PATIENT" in os.environ and not _is_heard(folder, spec, env_steps)


def _is_heard(folder: TrialPaths, spec: dict[str, Any], env_steps: int) -> bool:
    total, points = spec["training"]["env_steps"], spec["training"]["report_points"]
    last_report = total * (env_steps * points // total) // points
    lines = fs.read_lines(StudyPaths(folder.root.parent.parent).decisions)
    heard = [line["env_step"] for line in lines if (line["action"], line.get("trial")) == ("reported", spec["trial"])]
    return max(heard, default=0) >= last_report


def _stop_reason(folder: TrialPaths, spec: dict[str, Any]) -> str | None:
    return "SIGTERM" if _sigterm else events.stop_requested(folder.stop_request, spec["token"])


def _await_stop(folder: TrialPaths, spec: dict[str, Any]) -> None:
    while _stop_reason(folder, spec) is None:
        time.sleep(0.05)


def _misbehave(behaviour: str) -> Ended | None:
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour.startswith("exit "):
        os._exit(int(behaviour.split()[-1]))
    if behaviour == "oom kill":
        Path(os.environ["TOY_OOM_COUNTER"]).write_text("oom_kill 1\n")
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "fenced":
        os._exit(events.EXIT_FENCED)
    if behaviour in ("freeze", "sigterm"):
        os.kill(os.getpid(), signal.SIGSTOP if behaviour == "freeze" else signal.SIGTERM)
    while behaviour == "hang" or (behaviour == "doze" and not _sigterm):
        time.sleep(0.05)
    return Ended(behaviour) if behaviour in {state.value for state in Ended} else None


def _finish(folder: TrialPaths, spec: dict[str, Any], iteration: int, env_steps: int, behaviour: str) -> Result:
    if behaviour == "scoreless":
        return _result(spec, Ended.FINISHED, "", iteration, env_steps)
    episodes = _episodes(spec, 1.0)
    parts = episodes.parts()
    assert parts is not None
    best = folder.checkpoints / "best_agent.pt"
    fs.write_json(best, {"iteration": iteration})
    _log_checkpoint(folder, spec, best, "best", iteration, env_steps, parts)
    score = parts["success_rate"]
    return _result(
        spec, Ended.FINISHED, "", iteration, env_steps, score=score, parts=parts, episodes=episodes.as_dict(),
        final_score=score, best_checkpoint=best.name, last_checkpoint=f"agent_{env_steps}.pt",
    )  # fmt: skip


def _result(spec: dict[str, Any], state: Ended, reason: str, iteration: int, env_steps: int, **more: Any) -> Result:
    return Result(
        state=state, reason=reason, attempt=spec["attempt"], token=spec["token"], env_steps=env_steps,
        iteration=iteration, **more,
    )  # fmt: skip


def _episodes(spec: dict[str, Any], share: float) -> EpisodeTotals:
    luck = float(os.environ.get("TOY_LUCK", "0")) * (spec["training"]["seed"] % 7) / 6
    success = round(EPISODES * quality(spec["parameters"]) * share * (1 - luck))
    return EpisodeTotals(
        finished=EPISODES, success=success, reached=success, timed_out=EPISODES - success, goal_progress=success,
        time_to_goal=5.0 * EPISODES, length=800.0 * EPISODES, reward=3.0 * success,
    )  # fmt: skip


def _curve(behaviour: str, share: float) -> tuple[float, float]:
    """Return the shares of the final success rate and of the final reward at a share of the training."""
    falling = share if share <= 0.5 else 0.25
    success = {"lazy": 0.0, "collapse": falling, "collapse held": falling, "gamed": falling}.get(behaviour, share)
    return success, share if behaviour == "gamed" else success


def _log_progress(
    folder: TrialPaths, spec: dict[str, Any], iteration: int, env_steps: int, shares: tuple[float, float]
) -> None:
    success, reward = shares
    line = {
        "v": 1, "kind": "progress", "time": events.utc_now(), "attempt": spec["attempt"], "token": spec["token"],
        "iteration": iteration, "env_steps": env_steps,
        "episodes": {**_episodes(spec, success).as_dict(), "reward": 3.0 * EPISODES * reward},
        "timing": {"env_steps_per_s": 50_000.0}, "memory": {"rss_mb": 40.0 + iteration, "device_mb": None},
    }  # fmt: skip
    fs.append_line(folder.metrics, line)


def _checkpoint(folder: TrialPaths, spec: dict[str, Any], iteration: int, env_steps: int) -> None:
    file = folder.checkpoint(env_steps)
    fs.write_json(file, {"iteration": iteration, "env_steps": env_steps})
    _log_checkpoint(folder, spec, file, "resume", iteration, env_steps, None)
    kept = sorted(folder.checkpoints.glob("agent_*.pt"), key=lambda path: int(path.stem.removeprefix("agent_")))
    for old in kept[:-KEEP_LAST]:
        old.unlink()
        fs.append_line(folder.checkpoint_log, {"file": old.name, "deleted": True})


def _log_checkpoint(
    folder: TrialPaths, spec: dict[str, Any], file: Path, kind: str, iteration: int, env_steps: int, parts: Any
) -> None:
    line = {
        "file": file.name, "env_steps": env_steps, "iteration": iteration, "sha256": fs.sha256(file),
        "bytes": file.stat().st_size, "kind": kind, "score": parts and parts["success_rate"], "parts": parts,
        "time": events.utc_now(), "attempt": spec["attempt"],
    }  # fmt: skip
    fs.append_line(folder.checkpoint_log, line, sync=True)


def _resume(folder: TrialPaths) -> tuple[int, int]:
    """Return iteration and env step of the newest checkpoint, and take back what was logged after it."""
    lines = fs.read_lines(folder.checkpoint_log)
    files = {line["file"] for line in lines if line.get("kind") == "resume"}
    there = [fs.read_json(folder.checkpoints / name) for name in files if (folder.checkpoints / name).exists()]
    iteration, env_steps = max(((content["iteration"], content["env_steps"]) for content in there), default=(0, 0))
    kept = [line for line in fs.read_lines(folder.metrics) if line["iteration"] <= iteration]
    fs.write_text(folder.metrics, "".join(json.dumps(line) + "\n" for line in kept))
    return iteration, env_steps


if __name__ == "__main__":
    sys.exit(main(TrialPaths(Path(sys.argv[1]))))
