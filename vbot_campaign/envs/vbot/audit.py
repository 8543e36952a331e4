"""Would something else than finishing the task pay better? Asked of the reward before anything is trained.

Scripted behaviours move a robot on a straight line to the target, without physics, and the environment's own
`RewardFunction` prices every step of a whole episode. A reward is sound when the best of the behaviours that walk to
the target and stop there earns more than each degenerate one.

How success is counted. Success ends an episode long before its clock, so a plain sum would favour whoever dawdles. In
training the cut is bootstrapped: the value of the last state stands in for what would have followed. So a finished
behaviour is credited with its last step's reward, discounted, for the steps left on the clock. A behaviour that has
been inside the goal without stopping is priced by the same measure: its rewards are discounted too from the moment at
which it could have finished, 50 steps after its arrival. One that never arrives is credited in full, because that is
the mistake the audit is for: a robot that lives off the way and never comes. Without ``ppo.time_limit_bootstrap``
nothing is credited and nothing discounted.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from vbot_campaign.envs.physics.engine import CONTROL_DT_S
from vbot_campaign.envs.vbot.kinematics import BaseState
from vbot_campaign.envs.vbot.model import DEFAULT_POSE, NUM_JOINTS
from vbot_campaign.envs.vbot.observation import GOAL_RADIUS, Goal
from vbot_campaign.envs.vbot.rewards import INNER_FENCE_RADIUS, TERMS, RewardFunction, RewardShape, Transition
from vbot_campaign.envs.vbot.task import SUCCESS_SPEED, SUCCESS_STEPS
from vbot_campaign.errors import SpecError
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.problems import show
from vbot_campaign.spec.ranges import Kind, discrete_values, extremes
from vbot_campaign.spec.resolve import is_active, prior_point, resolve_training, skipped_by
from vbot_campaign.spec.study import LogUniform, StudySpec
from vbot_campaign.spec.training import TrainingSpec

RANDOM_POINTS = 64
_TOLERATED_SHARE = 0.25
"""Share of the search space's points in which something else may pay most before the start of a study says so."""

_STAND_HEIGHT = 0.261
_ACCELERATION = 3.0
_STOP_DISTANCE = 0.25
_HOVER_DISTANCE = 0.52
_OSCILLATION_M, _OSCILLATION_HZ = 0.1, 1.0
_NEAREST_START = 1.0

_WALKING = {
    "torques": 3000.0,
    "joint_velocities": 300.0,
    "joint_velocity_changes": 800.0,
    "action_changes": 4.0,
    "roll_pitch_rates": 5.0,
    "vertical_velocity": 0.05,
}
"""Sums of squares per step of a trained gait, rounded: what walking costs and standing does not."""
_STANDING_TORQUES = 300.0
_MOVING_SPEED = 0.05


# --- behaviours -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Behaviour:
    """A scripted way to spend an episode."""

    name: str
    travel: Callable[[torch.Tensor, float], torch.Tensor]
    """Metres covered towards the target at times (n,) in seconds, from a start at so many metres."""
    finishes: bool = False
    falls_after_s: float = math.inf


def _walk(times: torch.Tensor, length: float, speed: float) -> torch.Tensor:
    """Return metres covered on a way of ``length`` at a steady speed, with an even start and stop."""
    speed = min(speed, math.sqrt(_ACCELERATION * length))
    ramp, total = speed / _ACCELERATION, length / speed + speed / _ACCELERATION
    starting = 0.5 * _ACCELERATION * times.clamp(0.0, ramp).square()
    cruising = speed * (times.clamp(ramp, total - ramp) - ramp)
    stopping = times.clamp(total - ramp, total) - (total - ramp)
    return starting + cruising + speed * stopping - 0.5 * _ACCELERATION * stopping.square()


def _stand(times: torch.Tensor, start: float) -> torch.Tensor:
    return torch.zeros_like(times)


def _run(times: torch.Tensor, start: float) -> torch.Tensor:
    return _walk(times, 1000.0, 1.2)


def _hover(times: torch.Tensor, start: float) -> torch.Tensor:
    return _walk(times, start - _HOVER_DISTANCE, 1.2)


def _oscillate(times: torch.Tensor, start: float) -> torch.Tensor:
    way = start - GOAL_RADIUS
    arrived = way / 1.2 + 1.2 / _ACCELERATION
    swing = _OSCILLATION_M * (2 * math.pi * _OSCILLATION_HZ * (times - arrived)).sin()
    return _walk(times, way, 1.2) + torch.where(times > arrived, swing, 0.0)


def _walk_and_stop(speed: float) -> Behaviour:
    def travel(times: torch.Tensor, start: float) -> torch.Tensor:
        return _walk(times, start - _STOP_DISTANCE, speed)

    return Behaviour(f"walk at {speed} m/s and stop", travel, finishes=True)


BEHAVIOURS = (
    Behaviour("stand still", _stand),
    Behaviour("run and fall after 2 s", _run, falls_after_s=2.0),
    Behaviour(f"hover at {_HOVER_DISTANCE} m", _hover),
    Behaviour("oscillate across the goal's edge", _oscillate),
    _walk_and_stop(0.6),
    _walk_and_stop(1.2),
)


# --- one episode ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Script:
    """A behaviour's episode: all steps of the clock as one batch, and how each counts."""

    transition: Transition
    credit: torch.Tensor
    """Factor of each step's reward in the return, float32 (steps,); 0 after the end."""
    finished: bool


@functools.lru_cache(maxsize=64)
def script(behaviour: Behaviour, start: float, steps: int, discount: float | None) -> Script:
    """Play a behaviour. Do not write into the result: most points of a search space share it.

    Args:
        behaviour: What the robot does.
        start: Distance of the spawn point from the target, m.
        steps: Control steps of the clock.
        discount: Discount factor of the training; None when it does not bootstrap episodes that are cut.
    """
    times = torch.arange(steps + 1, dtype=torch.float64) * CONTROL_DT_S
    covered = behaviour.travel(times, start)
    distance = (start - covered).float()
    velocity = (covered.diff() / CONTROL_DT_S).float()
    reached = distance[1:] < GOAL_RADIUS
    fall = math.ceil(behaviour.falls_after_s / CONTROL_DT_S) - 1 if math.isfinite(behaviour.falls_after_s) else None
    transition = _transition(distance, velocity, reached, start, fall)
    success = _first(_run_lengths(reached & (velocity.abs() < SUCCESS_SPEED)) >= SUCCESS_STEPS)
    ends = [step for step in (success, fall) if step is not None]
    last = min([*ends, steps - 1])
    credit = _credit(steps, last, success == last, _first(reached), discount)
    return Script(transition, credit, finished=success == last)


def _transition(
    distance: torch.Tensor, velocity: torch.Tensor, reached: torch.Tensor, start: float, fall: int | None
) -> Transition:
    # The target is the origin and the robot comes along the x axis, looking at it.
    steps = torch.arange(len(velocity))
    base = _base_state(distance[1:], velocity)
    moving = velocity.abs() > _MOVING_SPEED
    arrival, fence = _first(reached), _first(distance[1:] < INNER_FENCE_RADIUS)
    return Transition(
        base=base,
        goal=Goal.seen_from(base, torch.zeros(len(velocity), 2)),
        speed=velocity.abs(),
        initial_distance=torch.full_like(velocity, start),
        previous_distance=distance[:-1],
        ever_reached=reached.cummax(dim=0).values,
        arrived=steps == (-1 if arrival is None else arrival),
        fence_entered=steps == (-1 if fence is None else fence),
        steps_since_arrival=steps - (arrival or 0),
        torques=_spread(torch.where(moving, _WALKING["torques"], _STANDING_TORQUES)),
        joint_velocity_change=_spread(moving * _WALKING["joint_velocity_changes"]),
        action_change=_spread(moving * _WALKING["action_changes"]),
        terminated=steps == (-1 if fall is None else fall),
    )


def _base_state(distance: torch.Tensor, velocity: torch.Tensor) -> BaseState:
    zero, moving = torch.zeros_like(velocity), velocity.abs() > _MOVING_SPEED
    vertical, roll = (math.sqrt(_WALKING[name]) for name in ("vertical_velocity", "roll_pitch_rates"))
    return BaseState(
        position=torch.stack((-distance, zero, zero + _STAND_HEIGHT), dim=1),
        linear_velocity=torch.stack((velocity, zero, moving * vertical), dim=1),
        angular_velocity=torch.stack((moving * roll, zero, zero), dim=1),
        up=torch.stack((zero, zero, zero + 1), dim=1),
        yaw=zero,
        joint_angles=torch.tensor(DEFAULT_POSE).expand(len(velocity), -1),
        joint_velocities=_spread(moving * _WALKING["joint_velocities"]),
    )


def _spread(sum_of_squares: torch.Tensor) -> torch.Tensor:
    return (sum_of_squares / NUM_JOINTS).sqrt().unsqueeze(1).expand(-1, NUM_JOINTS)


def _first(flags: torch.Tensor) -> int | None:
    hits = flags.nonzero()
    return int(hits[0]) if len(hits) > 0 else None


def _run_lengths(flags: torch.Tensor) -> torch.Tensor:
    counts = torch.arange(1, len(flags) + 1)
    return counts - torch.where(flags, 0, counts).cummax(dim=0).values


def _credit(steps: int, last: int, finished: bool, arrival: int | None, discount: float | None) -> torch.Tensor:
    step = torch.arange(steps, dtype=torch.float64)
    credit = (step <= last).double()
    if discount is None:
        return credit.float()
    if finished:
        left = steps - 1 - last
        credit[last] += discount * (1 - discount**left) / (1 - discount) if discount < 1 else left
    elif arrival is not None:
        credit *= discount ** (step - arrival - SUCCESS_STEPS).clamp_min(0)
    return credit.float()


# --- one reward -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Return:
    """What a behaviour earns in an episode."""

    behaviour: Behaviour
    start: float
    finished: bool
    terms: Mapping[str, float]

    @property
    def total(self) -> float:
        """Sum over all terms."""
        return sum(self.terms.values())

    def largest(self, count: int = 3) -> list[tuple[str, float]]:
        """Return the terms of largest size, with their sums."""
        return sorted(self.terms.items(), key=lambda item: -abs(item[1]))[:count]


@dataclass(frozen=True)
class Finding:
    """A degenerate behaviour that earns at least what finishing earns, or nothing that finishes."""

    degenerate: Return
    finishing: Return | None

    @property
    def term(self) -> str:
        """The term that pays the degenerate behaviour most beyond what it pays for finishing."""
        finishing = self.finishing.terms if self.finishing else {}
        return max(self.degenerate.terms, key=lambda name: self.degenerate.terms[name] - finishing.get(name, 0.0))

    def __str__(self) -> str:
        start = f"from {self.degenerate.start:g} m"
        if self.finishing is None:
            return f"{start}, no scripted walk finishes within the clock; raise env.episode_seconds"
        term = f"{self.term} {self.degenerate.terms[self.term]:.0f} against {self.finishing.terms[self.term]:.0f}"
        return (
            f"{start}, '{self.degenerate.behaviour.name}' earns {self.degenerate.total:.0f}, "
            f"'{self.finishing.behaviour.name}' {self.finishing.total:.0f}; most through {term}"
        )

    @property
    def margin(self) -> float:
        """How much more than finishing the degenerate behaviour earns."""
        return self.degenerate.total - (self.finishing.total if self.finishing else -math.inf)


def returns_of(training: TrainingSpec) -> list[Return]:
    """Return what every behaviour earns, from the nearest and from the farthest spawn distance."""
    declaration = get_environment(training.environment)
    settings = declaration.resolve_settings(training.env)
    shape = RewardShape(
        settings["speed_cap"], settings["braking_speed"], settings["braking_gain"], settings["stop_window_steps"]
    )
    reward = RewardFunction(declaration.resolve_rewards(training.reward), shape)
    steps = round(settings["episode_seconds"] / CONTROL_DT_S)
    discount = training.ppo.discount_factor if training.ppo.time_limit_bootstrap else None
    return [
        _return(behaviour, start, reward, script(behaviour, start, steps, discount))
        for start in _starts(settings)
        for behaviour in BEHAVIOURS
    ]


def _starts(settings: Mapping[str, Any]) -> list[float]:
    nearest = max(settings["spawn_inner_radius"], _NEAREST_START)
    return sorted({nearest, max(settings["spawn_outer_radius"], nearest)})


def _return(behaviour: Behaviour, start: float, reward: RewardFunction, played: Script) -> Return:
    sums = (reward(played.transition) * played.credit).sum(dim=1).tolist()
    return Return(behaviour, start, played.finished, dict(zip(TERMS, sums, strict=True)))


def findings_of(returns: list[Return]) -> list[Finding]:
    """Return the worst finding of each spawn distance; none where finishing pays most."""
    findings = []
    for start in sorted({item.start for item in returns}):
        here = [item for item in returns if item.start == start]
        finishing = max((item for item in here if item.finished), key=lambda item: item.total, default=None)
        degenerate = max((item for item in here if not item.behaviour.finishes), key=lambda item: item.total)
        if finishing is None or degenerate.total >= finishing.total:
            findings.append(Finding(degenerate, finishing))
    return findings


# --- a study ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AuditReport:
    """The audit of a study, or of a training without one."""

    study: str
    """Its name, or that of the training's folder."""
    clock_s: float
    returns: list[Return]
    """At the priors."""
    findings: list[Finding]
    """At the priors: each of them is a reason not to start."""
    points: int
    """Other points of the search space that were tried."""
    warnings: list[tuple[str, Finding]]
    """Points where something else pays more than finishing, each with the worst finding there."""

    @property
    def ok(self) -> bool:
        """Whether finishing pays most at the priors."""
        return not self.findings


def audit_training(training: TrainingSpec, name: str) -> AuditReport:
    """Audit a training without a study.

    Args:
        training: What is trained.
        name: What to call it in the report.
    """
    returns = returns_of(training)
    clock_s = get_environment(training.environment).resolve_settings(training.env)["episode_seconds"]
    return AuditReport(name, clock_s, returns, findings_of(returns), 0, [])


def audit_study(study: StudySpec) -> AuditReport:
    """Audit a study's priors, every end of its searched rewards and settings, and 64 random points between them."""
    priors = prior_point(study)
    at_priors = audit_training(resolve_training(study, priors), study.study)
    warnings, points = [], 0
    for label, point in _points(study, priors):
        try:
            if skipped_by(study, point) is not None:
                continue
            found = findings_of(returns_of(resolve_training(study, point)))
        except SpecError:  # values that do not go together are never trained either
            continue
        points += 1
        if found:
            worst = max(found, key=lambda finding: finding.margin)
            warnings.append((_with_value(label, worst.term, point), worst))
    return replace(at_priors, points=points, warnings=warnings)


def _with_value(label: str, term: str, point: Mapping[str, Any]) -> str:
    name = f"reward.{term}"
    return label if name in label or name not in point else f"{label} ({name}={point[name]:.3g})"


def _points(study: StudySpec, priors: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    searched = {name: p for name, p in study.parameters.items() if name in priors and _matters(name)}
    for name, parameter in searched.items():
        for _, value in extremes(parameter):
            yield f"{name}={show(value)}", {**priors, name: value}
    generator = random.Random(study.sampler.seed)
    for number in range(RANDOM_POINTS if searched else 0):
        point = dict(priors)
        for name, parameter in searched.items():
            if is_active(study, name, point):
                point[name] = _draw(parameter, generator)
        yield f"random point {number + 1}", point


def _matters(name: str) -> bool:
    return name.startswith(("reward.", "env.")) or name in ("ppo.discount_factor", "ppo.time_limit_bootstrap")


def _draw(parameter: Kind, generator: random.Random) -> Any:
    values = discrete_values(parameter)
    if values is not None:
        return generator.choice(values)
    low, high = (value for _, value in extremes(parameter))
    if isinstance(parameter, LogUniform):
        magnitude = math.exp(generator.uniform(math.log(abs(low)), math.log(abs(high))))
        return min(max(math.copysign(magnitude, low), low), high)
    return generator.uniform(low, high)


def start_warnings(report: AuditReport) -> list[str]:
    """Return what someone who starts a training must hear of its reward, a sentence or two; mostly nothing."""
    if report.findings:
        worst = max(report.findings, key=lambda finding: finding.margin)
        head = "Something else than finishing pays most" if worst.finishing else "The clock is too short"
        return [f"{head}: {worst}."]
    if len(report.warnings) > _TOLERATED_SHARE * report.points:
        label, finding = max(report.warnings, key=lambda warning: warning[1].margin)
        return [
            f"In {len(report.warnings)} of {report.points} points of the search space something else than finishing "
            f"pays most, worst at {label}: {finding}."
        ]
    return []


# --- in words ---------------------------------------------------------------------------------------------------------

_SHOWN_WARNINGS = 12


def render(report: AuditReport) -> str:
    """Return the report as text: a table of the priors, then what was found."""
    starts = sorted({item.start for item in report.returns})
    heads = "".join(f"{f'from {start:g} m':>14}" for start in starts)
    lines = [
        f"{report.study}: return of an episode of {report.clock_s:g} s at the priors",
        f"  {'behaviour':<34}{heads}   largest terms from {starts[-1]:g} m",
    ]
    lines += [_row(behaviour, starts, report.returns) for behaviour in BEHAVIOURS]
    lines += ["", *(f"FAILED  {finding}." for finding in report.findings)]
    if report.ok:
        lines.append("ok      at the priors finishing pays most, from every distance.")
    lines += _warning_lines(report)
    return "\n".join(lines)


def _row(behaviour: Behaviour, starts: list[float], returns: list[Return]) -> str:
    here = {item.start: item for item in returns if item.behaviour == behaviour}
    late = behaviour.finishes
    cells = "".join(
        f"{'too slow' if late and not here[start].finished else format(here[start].total, '.0f'):>14}"
        for start in starts
    )
    terms = ", ".join(f"{name} {value:.0f}" for name, value in here[starts[-1]].largest())
    return f"  {behaviour.name:<34}{cells}   {terms}"


def _warning_lines(report: AuditReport) -> list[str]:
    if report.points == 0:
        return ["ok      no reward weight and no environment setting is searched."]
    bad = len(report.warnings)
    good = f"in {report.points - bad} of {report.points} points finishing pays most."
    lines = [f"{'warning' if bad else 'ok':<8}search space: {good}"]
    # Where the priors fail already, most of the space does.
    shown = report.warnings[:_SHOWN_WARNINGS] if report.ok else []
    lines += [f"        {label}: {finding}." for label, finding in shown]
    if bad > len(shown) > 0:
        lines.append(f"        and {bad - len(shown)} more.")
    return lines
