"""Points of another study, of a file or of the reward library, made to fit a study's search space."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vbot_campaign.errors import SpecError
from vbot_campaign.spec import ranges
from vbot_campaign.spec.document import parse_value
from vbot_campaign.spec.point_file import Candidate
from vbot_campaign.spec.problems import show
from vbot_campaign.spec.ranges import Kind
from vbot_campaign.spec.resolve import first_value, is_active, skipped_by, unsearched_values
from vbot_campaign.spec.study import Categorical, Choice, Integer, LogUniform, StudySpec
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView

SAME_REL_TOL = 1e-9
"""Numbers this near are one value: what a logarithm or a text has cost."""


@dataclass(frozen=True)
class Fitted:
    """A candidate as a point of the search space, or why it is none."""

    origin: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """A complete point; empty for a refused candidate."""
    refused: tuple[str, ...] = ()
    """Why it is left out, in words."""
    clipped: tuple[str, ...] = ()
    """Values that were moved into the range, in words."""
    priors: tuple[str, ...] = ()
    """Parameters that it says nothing of and that have their prior."""
    left_out: tuple[str, ...] = ()
    """Values that the study does not search and has otherwise, in words."""
    as_here: int = 0
    """Values that the study does not search and has the same."""
    can_clip: bool = False
    """It is refused for values that could be moved into their range."""


@dataclass(frozen=True)
class _Placed:
    """One value in a parameter's range."""

    value: Any
    note: str = ""
    """What was done to it."""


class _RefusedError(Exception):
    """A value that does not fit, with the reason."""

    def __init__(self, message: str, *, can_clip: bool) -> None:
        super().__init__(message)
        self.can_clip = can_clip


def candidates_of(snapshot: StudySnapshot, trials: Sequence[int] | None, top: int) -> list[Candidate]:
    """Return trials of a study as points for another one.

    What a trial did not search comes along as the study had it: it may be searched there.

    Args:
        snapshot: The study they come from.
        trials: Their numbers; None for the best complete ones.
        top: How many of the best.

    Raises:
        StudyError: It has no such trial.
        SpecError: It has no complete trial to choose from.
    """
    name = snapshot.spec.study
    chosen = best_trials(snapshot, top) if trials is None else [snapshot.trial(number) for number in trials]
    if not chosen:
        raise SpecError(f"--from {name}: the study has no complete trial yet; name trials: --from {name}:0,1.")
    plain = unsearched_values(snapshot.spec)
    return [Candidate(f"{name}:{trial.number}", {**plain, **trial.parameters}, trial.score) for trial in chosen]


def best_trials(snapshot: StudySnapshot, top: int) -> list[TrialView]:
    """Return the best complete trials, the best first; of equal ones the earlier goes first."""
    complete = [t for t in snapshot.trials if t.state is TrialState.COMPLETE and t.score is not None]
    return sorted(complete, key=lambda trial: (-(trial.score or 0.0), trial.number))[:top]


def fit_all(
    spec: StudySpec, candidates: Iterable[Candidate], known: Iterable[tuple[str, Mapping[str, Any]]], *, clip: bool
) -> list[Fitted]:
    """Make candidates fit a study, one after the other.

    Args:
        spec: The study.
        candidates: The points.
        known: What the study has already: a name and a point each.
        clip: Move values into their range instead of refusing the point.
    """
    there = list(known)
    found = []
    for candidate in candidates:
        fitted = fit(spec, candidate, clip=clip)
        twin = next((name for name, point in there if same_point(point, fitted.parameters)), None)
        if not fitted.refused and twin is not None:
            fitted = Fitted(candidate.origin, refused=(f"is the same point as {twin}",))
        elif not fitted.refused:
            there.append((candidate.origin, fitted.parameters))
        found.append(fitted)
    return found


def fit(spec: StudySpec, candidate: Candidate, *, clip: bool, any_number: bool = False) -> Fitted:
    """Make one candidate a complete point of a study.

    Each searched parameter takes the candidate's value, or its prior where it has none.

    Args:
        spec: The study.
        candidate: The point.
        clip: Move values into their range instead of refusing the point. A choice that is no number cannot be moved;
            it takes the prior then.
        any_number: Take numbers of continuous parameters as they are, wherever they lie.
    """
    if not candidate.values.keys() & spec.parameters.keys():
        return Fitted(candidate.origin, refused=("has no value for anything that the study searches",))
    point: dict[str, Any] = {}
    refused, clipped, priors, can_clip = [], [], [], False
    for name in (name for name in spec.parameters if is_active(spec, name, point)):
        point[name] = first_value(spec, name)
        if name not in candidate.values:
            priors.append(name)
            continue
        try:
            placed = _place(spec, name, candidate.values[name], clip, any_number)
        except _RefusedError as refusal:
            refused.append(str(refusal))
            can_clip |= refusal.can_clip
            continue
        point[name] = placed.value
        clipped += [placed.note] if placed.note else []
    if not refused and (constraint := skipped_by(spec, point)) is not None:
        why = f" ({constraint.reason})" if constraint.reason else ""
        refused.append(f"a constraint refuses it: {constraint.skip_if}{why}")
    if refused:
        return Fitted(candidate.origin, refused=tuple(refused), can_clip=can_clip)
    left_out, as_here = _left_out(spec, candidate, point)
    return Fitted(candidate.origin, point, (), tuple(clipped), tuple(priors), tuple(left_out), as_here)


def same_point(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Tell whether two points are one but for the last digits of their numbers."""
    return a.keys() == b.keys() and all(same_value(a[name], b[name]) for name in a)


def same_value(a: Any, b: Any) -> bool:
    """Tell whether two values are one but for the last digits of a number."""
    if _is_number(a) and _is_number(b):
        return math.isclose(a, b, rel_tol=SAME_REL_TOL)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same_value(x, y) for x, y in zip(a, b, strict=True))
    return ranges.same(a, b)


# --- one value ------------------------------------------------------------------------------------------------------


def _place(spec: StudySpec, name: str, given: Any, clip: bool, any_number: bool) -> _Placed:
    parameter = spec.parameters[name]
    value = _read(parameter, given)
    inside = _inside(parameter, value)
    if inside is not None:
        return _Placed(inside)
    if any_number and ranges.is_continuous(parameter) and _is_number(value):
        return _Placed(float(value))
    wrong = f"{name} {show(value)} is outside of {ranges.range_text(parameter)}"
    moved = _nearest(parameter, value)
    if moved is None and not isinstance(parameter, Choice | Categorical):
        raise _RefusedError(f"{wrong}, and no number", can_clip=False)
    if not clip:
        raise _RefusedError(wrong, can_clip=True)
    if moved is None:
        prior = first_value(spec, name)
        return _Placed(prior, f"{name} {show(value)} -> {show(prior)}, the prior")
    return _Placed(moved, f"{name} {show(value)} -> {show(moved)}")


def _read(parameter: Kind, given: Any) -> Any:
    """Return a value as it would be read in a study file: some scripts write their numbers and lists as texts."""
    if not isinstance(given, str) or _inside(parameter, given) is not None:
        return given
    try:
        return parse_value(given)
    except SpecError:
        return given


def _inside(parameter: Kind, value: Any) -> Any | None:
    """Return a value of the range as the study would draw it, or None where it lies outside."""
    if isinstance(parameter, Choice | Categorical):
        return next((option for option in ranges.options(parameter) if same_value(option, value)), None)
    if isinstance(parameter, Integer) and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not _is_number(value) or not ranges.contains(parameter, value):
        return None
    return value if isinstance(parameter, Integer) else float(value)


def _nearest(parameter: Kind, value: Any) -> Any | None:
    """Return the value of the range that is nearest to a number, or None where there is none."""
    if not _is_number(value):
        return None
    if isinstance(parameter, Choice | Categorical):
        numbers = [option for option in ranges.options(parameter) if _is_number(option)]
        return min(numbers, key=lambda option: abs(option - value), default=None)
    if not isinstance(parameter, LogUniform) and parameter.step is not None:
        steps: Sequence[Any] = ranges.discrete_values(parameter) or ()
        return min(steps, key=lambda step: abs(step - value))
    return float(min(max(value, parameter.low), parameter.high))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# --- what is left out -----------------------------------------------------------------------------------------------


def _left_out(spec: StudySpec, candidate: Candidate, point: Mapping[str, Any]) -> tuple[list[str], int]:
    """Return what is not taken over and differs from what the study has, in words, and how much is the same."""
    here = {**unsearched_values(spec), "num_envs": spec.workers.num_envs, "ppo.num_envs": spec.workers.num_envs}
    rest = {name: value for name, value in candidate.values.items() if name not in point}
    words = list(_differing(spec, here, rest))
    return words, len(rest) - len(words)


def _differing(spec: StudySpec, here: Mapping[str, Any], rest: Mapping[str, Any]) -> Iterator[str]:
    for name, value in rest.items():
        if name in spec.parameters:
            yield f"{name} {show(value)} (does not apply at this point)"
        elif name not in here:
            yield f"{name} {show(value)} (unknown here)"
        elif not same_value(here[name], value):
            yield f"{name} {show(value)} (not searched; here {show(here[name])})"
