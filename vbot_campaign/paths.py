"""The only place that spells a file name under ``runs/``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from vbot_campaign.errors import SpecError
from vbot_campaign.storage_url import masked

RUNS_VARIABLE = "VBOT_CAMPAIGN_RUNS"

MAX_NAME = 64
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def runs_folder() -> Path:
    """Return the folder of all runs: ``$VBOT_CAMPAIGN_RUNS``, or ``runs`` in the working folder."""
    return Path(os.environ.get(RUNS_VARIABLE) or "runs")


def timestamp(now: datetime | None = None) -> str:
    """Return a UTC time that sorts and is safe in a file name: ``20260131T235959Z``."""
    return (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def name_problem(name: str) -> str | None:
    """Return why a text cannot name something that becomes a file or folder under ``runs/``; None when it can."""
    if not _NAME.fullmatch(name):
        shown = ascii(name) if len(name) <= MAX_NAME else f"{name[:20]!a}… ({len(name)} characters)"
        return (
            f"{shown} cannot be a name; use letters, digits, '.', '_' and '-', beginning with a letter or digit, "
            f"{MAX_NAME} at most."
        )
    if ".." in name or name.endswith("."):
        return f"'{name}' cannot be a name; it has two dots in a row or ends with one."
    if _DEVICES.fullmatch(name):
        return f"'{name}' cannot be a name; on Windows it is a device."
    return None


def is_inside(path: str) -> bool:
    """Tell whether a relative path with forward slashes stays inside the folder that it starts from, anywhere."""
    plain = path != "" and path.isprintable() and "\\" not in path and ":" not in path
    return plain and all(part not in ("", ".", "..") for part in path.split("/"))


@dataclass(frozen=True)
class CampaignPaths:
    """What lies directly in ``runs/``."""

    root: Path
    storage: str | None = field(default=None, repr=False)
    """Address of the database where that is on a server, with its password: not for messages. None for `database`."""

    @property
    def database(self) -> Path:
        """SQLite file with Optuna's tables and ours; not used where the database is on a server."""
        return self.root / "campaign.db"

    @property
    def has_database(self) -> bool:
        """Whether there is something to look for studies in."""
        return self.storage is not None or self.database.exists()

    @property
    def database_name(self) -> str:
        """What messages call the database."""
        return str(self.database) if self.storage is None else masked(self.storage)

    @property
    def database_lock(self) -> Path:
        """Held while the database is made or changed in its form."""
        return self.root / "campaign.db-lock"

    @property
    def database_url(self) -> str:
        """SQLAlchemy address of the database, with its password where it has one."""
        return self.storage if self.storage is not None else f"sqlite:///{self.database.absolute().as_posix()}"

    @property
    def backups(self) -> Path:
        """Folder of the back-ups that were asked for."""
        return self.root / "backups"

    @property
    def automatic_backups(self) -> Path:
        """Folder of the copies of the database that a supervisor makes."""
        return self.backups / "auto"

    @property
    def reward_library(self) -> Path:
        """Folder of reward weights that were kept, with what they achieved."""
        return self.root / "reward_library"

    def reward(self, name: str) -> Path:
        """An entry of the reward library.

        Raises:
            SpecError: The name could lead out of the folder.
        """
        if (problem := name_problem(name)) is not None:
            raise SpecError(f"reward library: {problem}")
        return self.reward_library / f"{name}.yaml"

    @property
    def artifacts(self) -> Path:
        """Folder of the files that the dashboard shows beside trials, of all studies."""
        return self.root / "artifacts"

    @property
    def service(self) -> ServicePaths:
        """Files of the service that runs what is in the queue; no study can have the name of their folder."""
        return ServicePaths(self.root / ".service")

    def study(self, name: str) -> StudyPaths:
        """Return the paths of one study.

        Raises:
            SpecError: The name could lead out of the runs folder.
        """
        if (problem := name_problem(name)) is not None:
            raise SpecError(f"study {problem}")
        return StudyPaths(self.root / name)

    def plan(self, name: str) -> PlanPaths:
        """Return the paths of a campaign of several stages.

        Raises:
            SpecError: The name could lead out of the runs folder.
        """
        if (problem := name_problem(name)) is not None:
            raise SpecError(f"campaign {problem}")
        return PlanPaths(self.root / name)

    def single_run(self, environment: str, now: datetime | None = None) -> TrialPaths:
        """Return the folder of a new training without a study."""
        return TrialPaths(self.root / environment / f"{timestamp(now)}_PPO")


@dataclass(frozen=True)
class ServicePaths:
    """What lies in ``runs/.service/``."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held by the live service."""
        return self.root / "serve.lock"

    @property
    def owner(self) -> Path:
        """Who holds the lock, or held it last."""
        return self.root / "serve.json"

    def definition(self, name: str) -> Path:
        """The study or plan file that was given to a supervisor.

        Raises:
            SpecError: The name could lead out of the folder.
        """
        return self._of(name, "yaml")

    def log(self, name: str) -> Path:
        """Everything that the supervisors of a study or plan have printed.

        Raises:
            SpecError: The name could lead out of the folder.
        """
        return self._of(name, "log")

    def _of(self, name: str, kind: str) -> Path:
        if (problem := name_problem(name)) is not None:
            raise SpecError(f"queue: {problem}")
        return self.root / f"{name}.{kind}"


@dataclass(frozen=True)
class PlanPaths:
    """What lies in ``runs/<plan>/``, the folder of a campaign of several stages; its studies have their own."""

    root: Path

    @property
    def state(self) -> Path:
        """Mirror: stages, gates, what they cost, where their policies are."""
        return self.root / "campaign_state.yaml"

    @property
    def steps(self) -> Path:
        """Every step with its outcome, one JSON line each."""
        return self.root / "campaign.jsonl"

    @property
    def lock(self) -> Path:
        """Held by whoever runs the campaign."""
        return self.root / ".campaign.lock"

    @property
    def stop_request(self) -> Path:
        """Present when someone asked the campaign to stop."""
        return self.root / "stop.json"

    def best_policy(self, number: int, stage: str) -> Path:
        """Back-up of the policy that a stage hands on."""
        return self.root / "stages" / f"{number}_{stage}" / "best_agent.pt"

    def last_policy(self, number: int, stage: str) -> Path:
        """Back-up of the checkpoint at the end of the training that it is from."""
        return self.root / "stages" / f"{number}_{stage}" / "last_agent.pt"


@dataclass(frozen=True)
class StudyPaths:
    """What lies in ``runs/<study>/``."""

    root: Path

    @property
    def campaign(self) -> CampaignPaths:
        """The runs folder that it lies in."""
        return CampaignPaths(self.root.parent)

    @property
    def automl_state(self) -> Path:
        """Mirror: progress, best results, history, budget."""
        return self.root / "automl_state.yaml"

    @property
    def registry(self) -> Path:
        """Mirror: every checkpoint."""
        return self.root / "registry.yaml"

    @property
    def index(self) -> Path:
        """Mirror: one row per trial."""
        return self.root / "index.yaml"

    @property
    def report(self) -> Path:
        """One self-contained HTML page."""
        return self.root / "report.html"

    @property
    def report_markdown(self) -> Path:
        """The same as Markdown."""
        return self.root / "report.md"

    def policy_evaluation(self, sha256: str, physics: str) -> Path:
        """What one policy did in one engine; the name is the hash of its checkpoint, so it is never out of date."""
        return self.root / "evaluations" / f"{sha256}_{physics}.json"

    @property
    def decisions(self) -> Path:
        """Every decision of the supervisor with its reason, one JSON line each."""
        return self.root / "supervisor.jsonl"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the live supervisor of the study."""
        return self.root / ".supervisor.lock"

    @property
    def queue_lock(self) -> Path:
        """Held by whoever puts trials into the study's queue."""
        return self.root / ".queue.lock"

    @property
    def stop_request(self) -> Path:
        """Present when someone asked the supervisor to stop."""
        return self.root / "stop.json"

    @property
    def warm_start(self) -> Path:
        """Copy of the policy that every trial starts from, made when the study was created."""
        return self.root / "warm_start.pt"

    @property
    def trials(self) -> Path:
        """Folder of the trial folders."""
        return self.root / "trials"

    @property
    def import_log(self) -> Path:
        """One JSON line per checkpoint that was imported from another program."""
        return self.root / "imported" / "imported.jsonl"

    def imported(self, name: str) -> Path:
        """A checkpoint that was imported from another program.

        Raises:
            SpecError: The name could lead out of the folder.
        """
        if (problem := name_problem(name)) is not None:
            raise SpecError(f"imported checkpoint: {problem}")
        return self.root / "imported" / f"{name}.pt"

    def config(self, trial: int) -> Path:
        """Exact configuration of a trial."""
        return self.root / "configs" / f"trial_{trial:04d}.yaml"

    def experiment(self, trial: int) -> Path:
        """Summary of a trial."""
        return self.root / "experiments" / f"trial_{trial:04d}.yaml"

    @property
    def mirror_folders(self) -> tuple[Path, Path]:
        """Folders of the mirrors that trials have of their own."""
        return self.config(0).parent, self.experiment(0).parent

    def new_trial(self, trial: int, now: datetime | None = None) -> TrialPaths:
        """Return the folder for a new trial, named by number and time."""
        return TrialPaths(self.trials / f"{trial:04d}_{timestamp(now)}_PPO")


@dataclass(frozen=True)
class TrialPaths:
    """What lies in one trial's folder. The same for a training without a study."""

    root: Path

    @property
    def spec(self) -> Path:
        """What to train; the supervisor writes it before each attempt."""
        return self.root / "trial.json"

    @property
    def meta(self) -> Path:
        """What was trained: versions, commit, device, seeds, resolved configuration."""
        return self.root / "experiment_meta.json"

    @property
    def metrics(self) -> Path:
        """One JSON line per iteration, evaluation and alert."""
        return self.root / "metrics.jsonl"

    @property
    def result(self) -> Path:
        """The last thing a worker writes; present means it ended by itself."""
        return self.root / "result.json"

    @property
    def stop_request(self) -> Path:
        """Present when the supervisor wants the worker to stop."""
        return self.root / "stop.json"

    @property
    def path_plot(self) -> Path:
        """The paths of a few episodes of the trial's policy, seen from above."""
        return self.root / "paths.png"

    @property
    def rollout(self) -> Path:
        """A short film of one of them."""
        return self.root / "rollout.gif"

    @property
    def log(self) -> Path:
        """Everything the worker printed."""
        return self.root / "worker.log"

    @property
    def lock(self) -> Path:
        """Held by the worker for as long as it lives."""
        return self.root / ".worker.lock"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.root / "checkpoints"

    @property
    def checkpoint_log(self) -> Path:
        """One JSON line per checkpoint: a checkpoint counts only when its line is there."""
        return self.checkpoints / "checkpoints.jsonl"

    @property
    def best_checkpoint(self) -> Path:
        """The best policy by score."""
        return self.checkpoints / "best_agent.pt"

    @property
    def quarantine(self) -> Path:
        """Folder of checkpoints that failed verification."""
        return self.checkpoints / "quarantine"

    def checkpoint(self, env_steps: int) -> Path:
        """The checkpoint after so many env steps."""
        return self.checkpoints / f"agent_{env_steps}.pt"
