"""``configs/trial_0007.yaml``: everything that a trial was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from vbot_campaign import fs
from vbot_campaign.errors import SpecError
from vbot_campaign.exporters import plain_yaml, rows
from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.spec import groups
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.trainer import trainer_words
from vbot_campaign.spec.training import CommandTrainer, TrainingSpec, TrialSpec
from vbot_campaign.study.snapshot import TrialView, WarmStartView
from vbot_campaign.study.training import trial_training

_PPO_TRAINERS = ("builtin", "skrl")

# Shown in every row of automl_state.yaml, whether or not the study file names them.
HP_CONFIG = (
    "learning_rate",
    "entropy_loss_scale",
    "policy_hidden_layer_sizes",
    "value_hidden_layer_sizes",
    "rollouts",
    "learning_epochs",
    "mini_batches",
    "discount_factor",
    "lambda_param",
    "ratio_clip",
    "grad_norm_clip",
)


@dataclass(frozen=True)
class TrialConfig:
    """A trial's configuration with every default filled in."""

    spec: StudySpec
    training: TrainingSpec | None
    """None where the sampled values cannot be trained; then only these are known."""
    ppo: Mapping[str, Any]
    """All hyperparameters, and ``num_envs``."""
    reward: Mapping[str, float]
    """All reward weights."""
    env: Mapping[str, Any]
    """All environment settings."""
    problem: str | None = None
    """Why the sampled values cannot be trained."""
    warm_start: dict[str, Any] | None = None
    """Where the training started, as `rows.warm_start`."""

    @property
    def hp_config(self) -> dict[str, Any]:
        """Hyperparameters that people compare: the usual eleven and those that the study names."""
        return _pick(self.ppo, (*HP_CONFIG, *self._named("ppo")))

    @property
    def reward_config(self) -> dict[str, float]:
        """Reward weights that the study searches, or fixes to something else than the default."""
        return _pick(self.reward, self._named("reward"))

    @property
    def env_config(self) -> dict[str, Any]:
        """Environment settings that the study searches, or fixes to something else than the default."""
        return _pick(self.env, self._named("env"))

    def _named(self, group: Literal["ppo", "reward", "env"]) -> list[str]:
        # A stored study fixes everything that it does not search; what it has in common with all others is no news.
        defaults = groups.defaults(get_environment(self.spec.environment))
        fixed = self.spec.fixed.get(group, {})
        chosen = [
            name
            for name, value in fixed.items()
            if plain_yaml.plain(value) != plain_yaml.plain(defaults.get(f"{group}.{name}"))
        ]
        return [*self.spec.search_space.get(group, {}), *chosen]


def _pick(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in dict.fromkeys(names) if name in values}


def trial_spec(paths: StudyPaths, trial: TrialView) -> TrialSpec | None:
    """Return what the supervisor told the last worker of a trial, or None before the first one.

    Raises:
        ValueError: The file is not a valid ``trial.json``.
    """
    if trial.folder is None:
        return None
    try:
        return TrialSpec.model_validate(fs.read_json(TrialPaths(paths.root / trial.folder).spec))
    except FileNotFoundError:
        return None


def resolve(
    paths: StudyPaths, spec: StudySpec, trial: TrialView, warm_start: WarmStartView | None = None
) -> TrialConfig:
    """Return a trial's configuration: what its worker was given, or what it would be given."""
    try:
        given = trial_spec(paths, trial)
    except ValueError:  # a damaged trial.json must not stop a mirror; `verify` names it
        given = None
    try:
        config = _complete(spec, given.training if given else trial_training(spec, trial))
    except SpecError as error:
        config = TrialConfig(spec, None, **_by_group(trial.parameters), problem=str(error))
    return replace(config, warm_start=rows.warm_start(paths, warm_start))


def _complete(spec: StudySpec, training: TrainingSpec) -> TrialConfig:
    environment = get_environment(training.environment)
    return TrialConfig(
        spec,
        training,
        ppo={"num_envs": training.num_envs, **training.ppo.model_dump(mode="json")},
        reward=environment.resolve_rewards(training.reward),
        env=environment.resolve_settings(training.env),
    )


def _by_group(parameters: Mapping[str, Any]) -> dict[str, Any]:
    groups: dict[str, Any] = {"ppo": {}, "reward": {}, "env": {}}
    for name, value in parameters.items():
        group, _, short = name.partition(".")
        groups.setdefault(group, {})[short] = value
    return groups


def algorithm(trainer: str | CommandTrainer) -> str:
    """Return the algorithm of a trainer: ours are PPO; of another one we know only who it is."""
    return "PPO" if trainer in _PPO_TRAINERS else trainer_words(trainer)


def render(trial: TrialView, config: TrialConfig) -> str:
    """Return the text of a trial's configuration file."""
    content = {
        "experiment_id": rows.experiment_id(config.spec.study, trial.number),
        "trial": trial.number,
        "environment": config.spec.environment,
        "physics": config.spec.physics,
        "algorithm": algorithm(config.spec.trainer),
        "trainer": trainer_words(config.spec.trainer),
        **({"problem": config.problem} if config.problem else {}),
        **(_training(config.training) if config.training else {}),
        **({"warm_start": config.warm_start} if config.warm_start else {}),
        **({"origin": trial.origin} if trial.origin else {}),
        **({"start": asdict(trial.start)} if trial.start else {}),
        "sampled": trial.parameters,
        "ppo": config.ppo,
        "reward": config.reward,
        "env": config.env,
    }
    return plain_yaml.document(config.spec.study, plain_yaml.dump(content))


def _training(training: TrainingSpec) -> dict[str, Any]:
    return {
        "env_steps": training.env_steps,
        "num_envs": training.num_envs,
        "seed": training.seed,
        "objective": training.objective.model_dump(mode="json", exclude_none=True),
        "evaluation": training.evaluation.model_dump(mode="json"),
        "checkpoints": training.checkpoints.model_dump(mode="json"),
        "report_points": training.report_points,
    }
