"""A study's search space, narrowed around a trial of the same or another study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vbot_campaign.campaign.transfer import parse_source
from vbot_campaign.errors import SpecError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.checks import run_name_problems, study_problems
from vbot_campaign.spec.narrowing import narrowed_space, study_text
from vbot_campaign.spec.point_file import Candidate
from vbot_campaign.spec.resolve import unsearched_values
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.trainable import require
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.transfer_points import fit


@dataclass(frozen=True)
class Narrowed:
    """A study that searches around a trial."""

    spec: StudySpec
    """Under the name of the study that it was made from."""
    words: str
    """What was done."""
    notes: tuple[str, ...]
    """What the trial did not say, and what was moved."""

    def write(self, file: Path) -> str:
        """Write the study file; the study is named after it.

        Returns:
            The study's name.

        Raises:
            SpecError: The name cannot be one, is that of the old study, or the file is there already.
        """
        name = file.stem
        if name == self.spec.study:
            raise SpecError(
                f"--output {file}: would be named {name} as the study that it comes from; name it otherwise."
            )
        require(run_name_problems(name, "study"))
        file.parent.mkdir(parents=True, exist_ok=True)
        text = f"# {self.words}\n{study_text(self.spec.model_copy(update={'study': name}))}"
        try:
            with file.open("x", encoding="utf-8", newline="\n") as target:
                target.write(text)
        except FileExistsError:
            raise SpecError(f"--output {file}: is there already, and stays as it is; name another file.") from None
        return name


def narrow_study(
    paths: CampaignPaths, spec: StudySpec, around: str, width: float, *, allow_outside: bool = False
) -> Narrowed:
    """Return a study that searches around a trial.

    Args:
        paths: The runs folder.
        spec: The study.
        around: ``STUDY:TRIAL``.
        width: Share of each range that the new one has, above 0 and at most 1.
        allow_outside: Ranges may end outside of the old ones, and the trial may lie there.

    Raises:
        StudyError: No such study or trial.
        SpecError: The trial lies outside of the space, or has nothing to do with it; or a new range is no valid one.
    """
    name, trials = parse_source(around)
    if trials is None or len(trials) != 1:
        raise SpecError(f"--around {around}: expected STUDY:TRIAL, such as section001:7.")
    if not 0 < width <= 1:
        raise SpecError(f"--width {width:g}: is not valid; expected above 0 and at most 1.")
    snapshot = load_snapshot(paths, name)
    trial = snapshot.trial(trials[0])
    candidate = Candidate(around, {**unsearched_values(snapshot.spec), **trial.parameters}, trial.score)
    fitted = fit(spec, candidate, clip=False, any_number=allow_outside)
    if fitted.refused:
        hint = "" if allow_outside else " Search outside of the old ranges with --allow-outside."
        raise SpecError(f"--around {around}: {'; '.join(fitted.refused)}.{hint}")
    narrow = narrowed_space(spec, fitted.parameters, width, allow_outside=allow_outside)
    require(study_problems(narrow))
    score = f", score {trial.score:.4f}" if trial.score is not None else ""
    words = f"Search space of {spec.study} around trial {trial.number} of {name}{score}: {width:.0%} of each range."
    notes = [f"{around} does not say {name}: its prior is the centre" for name in fitted.priors]
    return Narrowed(narrow, words, tuple(notes))
