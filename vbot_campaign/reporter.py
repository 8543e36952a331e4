"""The worker protocol for training scripts of any kind, in one file: copy it to wherever your script runs.

It needs Python 3.9 or newer and nothing but its standard library. A script becomes a worker like this::

    import sys
    from vbot_campaign import reporter            # or, beside a copy of this file: import reporter

    def train(trial):
        if trial.resume_file:
            ...                                   # load it; trial.iteration and trial.env_steps say where it stands
        while trial.env_steps < trial.settings["env_steps"]:
            if reason := trial.stop_reason():
                trial.checkpoint(save)
                return trial.stopped(reason)
            ...                                   # one iteration
            trial.progress(env_steps, episodes={"finished": 12, "success": 3, "reward": 480.5})
            trial.checkpoint(save)                # now and then
        return trial.finished(episodes=...)       # of an evaluation without noise

    if __name__ == "__main__":
        sys.exit(reporter.main(train))

``save`` is a function that takes a binary file, such as ``lambda file: torch.save(state, file)``. `main` takes the
trial folder from the command line, holds its lock, finds the last good checkpoint, cuts the log behind it, catches the
first SIGTERM, and writes ``result.json`` whole and last of all, whatever happens in ``train``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

PROTOCOL = 1
"""Version of ``trial.json`` and of everything that is written here."""

EXIT_CODES = {
    "finished": 0, "stopped": 0, "failed": 1, "invalid": 2, "diverged": 10, "out_of_memory": 11, "disk_full": 12,
}  # fmt: skip
EXIT_FOLDER_BUSY, EXIT_FENCED = 3, 4

_NO_MEMORY = ("can't allocate memory", "std::bad_alloc", "out of memory")

EPISODE_SUMS = (
    "finished", "success", "reached", "fell_before", "fell_after", "out_of_bounds", "timed_out",
    "goal_progress", "time_to_goal", "length", "reward", "final_distance",
)  # fmt: skip
"""What may be said of episodes: how many finished, and sums over those, never means."""

_SCALES = {"time_to_goal": 10.0, "episode_length": 1000.0, "episode_reward_mean": None}

Save = Callable[[IO[bytes]], Any]


class Diverged(Exception):  # noqa: N818 - it names what happened
    """Raise it when loss, weights or physics are not finite any more: the trial fails, the study goes on."""


class Invalid(Exception):  # noqa: N818
    """Raise it when the settings cannot be trained: after two such trials in a row the study stops."""


class FolderBusy(Exception):  # noqa: N818
    """Another process holds the lock of the trial's folder."""


class Fenced(Exception):  # noqa: N818
    """A later attempt owns the trial's folder: nothing more is written into it. Do not catch it."""


def main(train: Callable[[Trial], dict[str, Any]], arguments: list[str] | None = None) -> int:
    """Train the trial whose folder is the last argument of the command line, and return the exit code.

    Args:
        train: Called with the trial; returns `Trial.finished` or `Trial.stopped`.
        arguments: Of the command line, if not those of this process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if not given:
        print("usage: python SCRIPT TRIAL_DIR", file=sys.stderr)
        return EXIT_CODES["invalid"]
    folder = Path(given[-1])
    try:
        with _held(folder / ".worker.lock"):
            return EXIT_CODES[_train_locked(folder, train)]
    except (FolderBusy, Fenced) as error:
        print(error, file=sys.stderr)
        return EXIT_FENCED if isinstance(error, Fenced) else EXIT_FOLDER_BUSY


def _train_locked(folder: Path, train: Callable[[Trial], dict[str, Any]]) -> str:
    started, token = time.monotonic(), _owner(folder)
    (folder / "result.json").unlink(missing_ok=True)
    trial: Trial | None = None
    try:
        with _stop_signal() as stop:
            trial = Trial(folder, stop)
            result = train(trial)
        if not isinstance(result, dict) or result.get("state") not in EXIT_CODES:
            raise TypeError("train() must return trial.finished(...) or trial.stopped(...)")
    except (Exception, SystemExit) as error:
        result = _result_of_error(error, trial)
    _require_owner(folder, token)
    result = {"v": PROTOCOL, **result, "time": _now(), "seconds": time.monotonic() - started}
    try:
        _write_file(folder / "result.json", lambda file: file.write(_json(result, indent=2).encode("utf-8")))
    except OSError as error:
        if not _is_disk_full(error):
            raise
        result["state"] = "disk_full"  # the exit code is all that can be said
    return str(result["state"])


def _result_of_error(error: BaseException, trial: Trial | None) -> dict[str, Any]:
    report = traceback.format_exc()
    print(report, file=sys.stderr, flush=True)
    reason = f"the script ended itself with {error}" if isinstance(error, SystemExit) else str(error)
    counters = trial.counters() if trial else {"attempt": 0, "token": "", "env_steps": 0, "iteration": 0}
    return {**counters, "state": _state_of(error), "reason": reason or type(error).__name__, "error": report}


def _state_of(error: BaseException) -> str:
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    if said or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's and jax's
        return "out_of_memory"
    if _is_disk_full(error):
        return "disk_full"
    return "diverged" if isinstance(error, Diverged) else "invalid" if isinstance(error, Invalid) else "failed"


def _is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and errno.errorcode.get(error.errno or 0) in ("ENOSPC", "EFBIG", "EDQUOT")


class Trial:
    """One attempt at a trial, as its training script sees it. `main` makes it.

    Args:
        folder: The trial's folder; the caller holds its lock.
        stop: Names of the signals received.

    Raises:
        Invalid: ``trial.json`` is missing or of another version.
    """

    def __init__(self, folder: Path, stop: Sequence[str]) -> None:
        self.folder = folder
        self.spec: dict[str, Any] = _read_spec(folder / "trial.json")
        """The whole content of ``trial.json``."""
        self.settings: dict[str, Any] = self.spec["training"]
        """What to train: environment, env_steps, num_envs, seed, ppo, reward, env, objective, evaluation, …"""
        self.iteration = 0
        """Iterations so far; counted by `progress`, taken over from the checkpoint on a resume."""
        self.env_steps = 0
        """Transitions so far, over all environments."""
        self.resume_file: Path | None = None
        """The newest checkpoint that is there and unaltered, or None at the start."""
        self._stop = stop
        self._head = {"v": PROTOCOL, "attempt": self.spec["attempt"], "token": self.spec["token"]}
        self._checkpoints = folder / "checkpoints"
        self._log = self._checkpoints / "checkpoints.jsonl"
        self._checkpoints.mkdir(exist_ok=True)
        for part in self._checkpoints.glob(".*.part"):  # half-written files of an attempt that was killed
            part.unlink()
        self._find_resume_point()
        self._cut_metrics()

    def stop_reason(self) -> str | None:
        """Return why this attempt shall stop now, or None. Ask after every iteration.

        Then write a checkpoint and return `stopped`; a worker that does not within two minutes is killed. This and
        all that writes raise `Fenced` when a later attempt owns the folder.
        """
        _require_owner(self.folder, self.spec["token"])
        if self._stop:
            return f"signal {self._stop[0]}"
        try:
            request = json.loads((self.folder / "stop.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        # A request with another token was meant for an earlier attempt.
        return str(request["reason"]) if request.get("token", "") == self.spec["token"] else None

    def progress(self, env_steps: int, episodes: Mapping[str, float] | None = None, **fields: Any) -> None:
        """Report an iteration. The supervisor makes the trial's scores of these lines, and prunes by them.

        Args:
            env_steps: Transitions so far, over all environments.
            episodes: Sums over the episodes that finished since the last call, by the names of `EPISODE_SUMS`.
            **fields: Anything else to keep: ``loss={"policy": …}``, ``timing={"env_steps_per_s": …}``, …
        """
        self.iteration += 1
        self.env_steps = int(env_steps)
        line = {"iteration": self.iteration, "env_steps": self.env_steps, "episodes": _sums(episodes or {})}
        self._report("progress", {**line, **fields})

    def alert(self, message: str, level: str = "warning", cause: str = "") -> None:
        """Report something a person should know; ``level`` is ``info``, ``warning`` or ``error``."""
        self._report("alert", {"iteration": self.iteration, "level": level, "cause": cause, "message": message})

    def score(self, parts: Mapping[str, float]) -> float:
        """Return the study's objective for score parts."""
        return objective_score(self.settings["objective"], parts)

    def checkpoint(
        self,
        save: Save,
        *,
        best: bool = False,
        score: float | None = None,
        parts: Mapping[str, float] | None = None,
        suffix: str = ".pt",
    ) -> str:
        """Write a checkpoint of the present iteration and return its file name under ``checkpoints/``.

        The file appears whole, and counts once its line with size and SHA-256 is in ``checkpoints.jsonl``. Of those to
        continue from, ``settings["checkpoints"]["keep_last"]`` stay on disk.

        Args:
            save: Writes the content to the binary file it is given.
            best: Write ``best_agent``, the best policy so far, instead of a point to continue from.
            score: What the policy is worth.
            parts: The score's parts.
            suffix: Of the file's name.
        """
        _require_owner(self.folder, self.spec["token"])
        path = self._checkpoints / (f"best_agent{suffix}" if best else f"agent_{self.env_steps}{suffix}")
        sha256, size = _write_file(path, save)
        line = {"file": path.name, "env_steps": self.env_steps, "iteration": self.iteration, "sha256": sha256}
        kind = "best" if best else "resume"
        self._note({**line, "bytes": size, "kind": kind, "score": score, "parts": parts and dict(parts)})
        keep = int(self.settings["checkpoints"]["keep_last"])
        for old in [] if best else self._lines("resume")[:-keep]:
            self._delete(old, "retention")
        return path.name

    def counters(self) -> dict[str, Any]:
        """Return what identifies the attempt and says how far it came."""
        points = self._lines("resume")
        where = {"env_steps": self.env_steps, "iteration": self.iteration}
        return {
            "attempt": self.spec["attempt"],
            "token": self.spec["token"],
            **where,
            "last_checkpoint": points[-1]["file"] if points else None,
        }

    def stopped(self, reason: str) -> dict[str, Any]:
        """Return the result of a training that was asked to stop and wrote a checkpoint."""
        return {**self.counters(), "state": "stopped", "reason": reason}

    def finished(self, episodes: Mapping[str, float]) -> dict[str, Any]:
        """Report the evaluation that gives the trial its score, and return the result of a training that is done.

        Args:
            episodes: Sums over an evaluation without noise by ``settings["evaluation"]``: how many, and their seed.
        """
        parts, best = score_parts(episodes), self._lines("best")
        outcome = {"score": self.score(parts), "parts": parts, "episodes": _sums(episodes)}
        result = {**self.counters(), "best_checkpoint": best[-1]["file"] if best else None, **outcome}
        where = {"iteration": self.iteration, "env_steps": self.env_steps, "seed": self.settings["evaluation"]["seed"]}
        checkpoint = result["best_checkpoint"] or result["last_checkpoint"]
        for line in best:  # what it was worth is known only now
            self._note({**line, "score": outcome["score"], "parts": parts})
        self._report("evaluation", {**where, "checkpoint": checkpoint, **outcome})
        return {**result, "state": "finished", "reason": "trained and evaluated"}

    def _find_resume_point(self) -> None:
        for line in reversed(self._lines("resume")):
            path = self._checkpoints / line["file"]
            if path.is_file() and _sha256(path) == line["sha256"]:
                self.resume_file, self.iteration, self.env_steps = path, int(line["iteration"]), int(line["env_steps"])
                break
            self._quarantine(line)
        for line in self._lines("best"):
            # Of a future that is trained again.
            if line["env_steps"] > self.env_steps:
                self._delete(line, "retention")

    def _cut_metrics(self) -> None:
        path = self.folder / "metrics.jsonl"
        lines = _read_lines(path)
        # An evaluation is written again at the end, whatever was cut off after it.
        kept = [x for x in lines if int(x.get("iteration", 0)) <= self.iteration and x.get("kind") != "evaluation"]
        if len(kept) < len(lines):
            text = "".join(_json(line) + "\n" for line in kept)
            _write_file(path, lambda file: file.write(text.encode("utf-8")))

    def _lines(self, kind: str) -> list[dict[str, Any]]:
        """Return the newest line of each checkpoint of a kind that was not deleted, by env step."""
        newest = {line["file"]: line for line in _read_lines(self._log)}
        there = [line for line in newest.values() if line.get("kind") == kind and not line.get("deleted")]
        return sorted(there, key=lambda line: int(line["env_steps"]))

    def _delete(self, line: Mapping[str, Any], why: str) -> None:
        # The line first: a crash between the two leaves a file that nobody counts on, never a line without its file.
        kept = {name: line[name] for name in ("file", "env_steps", "iteration", "sha256", "kind")}
        self._note({**kept, "deleted": True, "why": why})
        if why == "retention":
            (self._checkpoints / line["file"]).unlink(missing_ok=True)

    def _quarantine(self, line: Mapping[str, Any]) -> None:
        path = self._checkpoints / line["file"]
        print(f"checkpoint {path} is missing or was altered; the one before it is used", file=sys.stderr, flush=True)
        self._delete(line, "quarantine")
        if path.exists():
            (self._checkpoints / "quarantine").mkdir(exist_ok=True)
            os.replace(path, self._checkpoints / "quarantine" / path.name)

    def _note(self, line: Mapping[str, Any]) -> None:
        _require_owner(self.folder, self.spec["token"])
        _append(self._log, {**line, "time": _now(), "attempt": self.spec["attempt"]}, sync=True)

    def _report(self, kind: str, content: Mapping[str, Any]) -> None:
        _require_owner(self.folder, self.spec["token"])
        _append(self.folder / "metrics.jsonl", {**self._head, "kind": kind, "time": _now(), **content})


def score_parts(episodes: Mapping[str, float]) -> dict[str, float]:
    """Return the score parts of episodes, of which one or more finished, in their natural units."""
    sums = _sums(episodes)
    count = sums["finished"]
    if count <= 0:
        raise ValueError("no episode finished, so there is nothing to score")
    return {
        "success_rate": sums["success"] / count,
        "survival_rate": 1.0 - (sums["fell_before"] + sums["fell_after"] + sums["out_of_bounds"]) / count,
        "goal_progress": sums["goal_progress"] / count,
        "time_to_goal": sums["time_to_goal"] / count,
        "episode_length": sums["length"] / count,
        "episode_reward_mean": sums["reward"] / count,
    }


def objective_score(objective: Mapping[str, Mapping[str, Any]], parts: Mapping[str, float]) -> float:
    """Return the weighted sum of parts (`score_parts`) by ``settings["objective"]``, each mapped to 0..1."""
    total = 0.0
    for name, term in objective.items():
        scale = term["scale"] if term.get("scale") is not None else _SCALES.get(name, 1.0)
        invert = term["invert"] if term.get("invert") is not None else name == "time_to_goal"
        if scale is None:
            raise Invalid(f"objective.{name} needs a scale")
        share = min(max(parts[name] / scale, 0.0), 1.0)
        total += term["weight"] * (1.0 - share if invert else share)
    return total


def _sums(episodes: Mapping[str, float]) -> dict[str, float]:
    unknown = sorted(set(episodes) - set(EPISODE_SUMS))
    if unknown:
        raise ValueError(f"episodes: no {', '.join(unknown)}; valid are {', '.join(EPISODE_SUMS)}")
    return {name: float(episodes.get(name, 0)) for name in EPISODE_SUMS}


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Invalid(f"{path}: cannot be read: {error}") from None
    if not isinstance(spec, dict) or spec.get("schema_version") != PROTOCOL or "training" not in spec:
        raise Invalid(f"{path}: is no trial of version {PROTOCOL}; copy reporter.py again from vbot_campaign")
    return spec


def _owner(folder: Path) -> str:
    """Return the token of the attempt that owns a folder."""
    try:
        return str(json.loads((folder / "trial.json").read_text(encoding="utf-8"))["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _require_owner(folder: Path, token: str) -> None:
    if _owner(folder) != token:
        raise Fenced(f"{folder / 'trial.json'} names another attempt; this one writes nothing more")


def _write_file(path: Path, save: Save) -> tuple[str, int]:
    """Write a file whole or not at all, and return its SHA-256 and size."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # one writer: the folder's lock is held
    try:
        with part.open("wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        sha256, size = _sha256(part), part.stat().st_size
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # Windows cannot open folders, and needs no such thing
        folder = os.open(str(path.parent), os.O_RDONLY)
        os.fsync(folder)  # makes the rename survive a power cut
        os.close(folder)
    return sha256, size


def _append(path: Path, record: Mapping[str, Any], sync: bool = False) -> None:
    """Append one JSON line in a single write; a line torn by a crash is closed first."""
    line = _json(record) + "\n"
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode("utf-8"))
        file.flush()
        if sync:
            os.fsync(file.fileno())


def _read_lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes() if path.exists() else b""
    records = []
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]


def _json(value: Any, indent: int | None = None) -> str:
    separators = None if indent else (",", ":")
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: numpy's and torch's single numbers as numbers, NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return str(value)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _now() -> str:
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock that the system drops in the instant this process dies, however it dies: others see that it lives."""
    descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise FolderBusy(f"another process trains {path.parent}; wait for it or stop it") from None
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _stop_signal() -> Iterator[list[str]]:
    """Yield a list that the first SIGTERM or SIGINT is noted in; a second one does what it always does."""
    received: list[str] = []

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)
        restore()

    previous: dict[int, Any] = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        restore()
