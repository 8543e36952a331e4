"""Studies whose trials start from a policy: the real command line with real workers, killed, bereft of its source."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.support.campaign import Campaign, finish, json_of, kill_everything, progress_lines, stable_lines, tiny_study
from tests.support.stored_study import store_study
from vbot_campaign import fs
from vbot_campaign.errors import CampaignError
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.rl import checkpoint
from vbot_campaign.spec.loading import study_from_text, with_warm_start
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.study import close_readers
from vbot_campaign.supervisor.warm_start import find_warm_start

SHORT: dict[str, Any] = {"env_steps_per_trial": 24 * 512, "budget": {"trials": 2}}


@pytest.fixture(autouse=True)
def _closed_readers() -> Iterator[None]:
    yield
    close_readers()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Run the study ``tiny`` of two short trials to its end."""
    campaign = Campaign(tmp_path_factory.mktemp("source"))
    campaign.call("run", campaign.write(**SHORT))
    return campaign


def copy_of(campaign: Campaign, folder: Path) -> Campaign:
    shutil.copytree(campaign.folder, folder, dirs_exist_ok=True)
    return Campaign(folder)


def write_far(campaign: Campaign, **changes: Any) -> Path:
    """Write a study ``far`` that starts from the study ``tiny``."""
    values = {**tiny_study(**SHORT), "study": "far", "warm_start": {"study": "tiny"}, **changes}
    path = campaign.folder / "far.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def far_spec(**changes: Any) -> StudySpec:
    return study_from_text(yaml.safe_dump({**tiny_study(**SHORT), "study": "far", **changes}))


def far_trial(campaign: Campaign, number: int) -> TrialPaths:
    (folder,) = campaign.runs.study("far").trials.glob(f"{number:04d}_*")
    return TrialPaths(folder)


def best_of(campaign: Campaign, name: str = "tiny") -> Path:
    registry = yaml.safe_load(campaign.runs.study(name).registry.read_text(encoding="utf-8"))
    return Path(campaign.runs.study(name).root / registry["best"]["path"])


def policy(path: Path, **changes: Any) -> Path:
    """Write a policy checkpoint of the tiny study's layers, or of others."""
    from vbot_campaign.rl.policy import ActorCritic

    sizes = {"observations": 54, "policy": (32, 16), "value": (32, 16), **changes}
    networks = ActorCritic(sizes["observations"], 12, sizes["policy"], sizes["value"])
    normalizer = {
        "running_mean": torch.zeros(sizes["observations"]),
        "running_variance": torch.ones(sizes["observations"]),
        "current_count": torch.tensor(1.0),
    }
    state = {"policy": networks.state_dict(), "state_preprocessor": normalizer, "vbot_campaign": {}}
    checkpoint.save(path, state, {"kind": "policy"})
    return path


# --- a study --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_trial_starts_from_the_copy_and_says_so(source: Campaign, tmp_path: Path) -> None:
    campaign = copy_of(source, tmp_path)
    file = write_far(campaign)
    assert "every trial from the best policy of study tiny" in campaign.call("check", file)

    output = campaign.call("run", file)

    best, trial = best_of(campaign), load_snapshot(campaign.runs, "tiny").best
    assert trial is not None
    copy = campaign.runs.study("far").warm_start
    assert copy.read_bytes() == best.read_bytes()
    assert f"every trial starts from the policy of trial {trial.number} of tiny after" in " ".join(output.split())
    start = load_snapshot(campaign.runs, "far").warm_start
    assert start is not None
    assert (start.sha256, start.bytes) == (fs.sha256(best), best.stat().st_size)
    assert (start.study, start.trial, start.score) == ("tiny", trial.number, trial.score)
    assert start.source == str(best.absolute())

    shown = {"path": "warm_start.pt", **dataclasses.asdict(start)}
    assert json_of(campaign.call("status", "far", "--json"))["warm_start"] == shown
    for number in (0, 1):
        study = campaign.runs.study("far")
        assert fs.read_json(far_trial(campaign, number).spec)["warm_start"] == str(copy)
        assert yaml.safe_load(study.config(number).read_text())["warm_start"] == shown
        assert yaml.safe_load(study.experiment(number).read_text())["config"]["warm_start"] == shown
    learned = checkpoint.load(best)["policy"]["log_std_parameter"].exp().mean()
    first = progress_lines(far_trial(campaign, 0))[0]
    assert first["std"] == pytest.approx(float(learned), abs=0.02), "the noise goes on where the source left it"
    assert "agree" in campaign.call("verify", "far")
    copy.write_bytes(b"else")
    assert "warm_start.pt: its sha256 is" in campaign.call("verify", "far", code=1)


@pytest.mark.slow
def test_killed_and_resumed_without_its_source_equals_undisturbed(source: Campaign, tmp_path: Path) -> None:
    undisturbed = copy_of(source, tmp_path / "undisturbed")
    undisturbed.call("run", write_far(undisturbed))
    campaign = copy_of(source, tmp_path / "killed")
    process = campaign.start("run", write_far(campaign))
    campaign.wait_for(process, lambda: len(list(campaign.runs.study("far").trials.glob("*/metrics.jsonl"))) > 0)
    campaign.wait_for(process, lambda: len(progress_lines(far_trial(campaign, 0))) >= 4)
    kill_everything(process)

    shutil.rmtree(campaign.study.root)
    copy = campaign.runs.study("far").warm_start
    content = copy.read_bytes()
    copy.write_bytes(content[:-1])
    altered = campaign.call("resume", "far", code=2)
    assert "warm_start.pt, which every trial of this study starts from, was altered" in altered
    assert fs.sha256(best_of(source)) in altered
    copy.unlink()
    assert "is gone. Put the file with SHA-256" in campaign.call("resume", "far", code=2)
    copy.write_bytes(content)
    campaign.call("resume", "far")

    for number in (0, 1):
        lines = stable_lines(far_trial(campaign, number)), stable_lines(far_trial(undisturbed, number))
        assert lines[0] == lines[1], f"trial {number}"
    # The same file again is the same study; another start is another one.
    assert "finished" in campaign.call("run", campaign.folder / "far.yaml")
    refused = campaign.call("run", write_far(campaign, warm_start={"study": "tiny", "trial": 1}), code=2)
    assert "the file differs from the stored study: warm_start.trial: added 1" in refused


@pytest.mark.slow
def test_the_option_goes_before_the_file_and_takes_a_runs_folder(source: Campaign, tmp_path: Path) -> None:
    campaign = copy_of(source, tmp_path)
    folder = best_of(campaign).parents[1]
    file = write_far(campaign, budget={"trials": 1}, warm_start={"study": "unknown"})

    campaign.call("run", file, "--warm-start", folder.relative_to(campaign.folder))

    start = load_snapshot(campaign.runs, "far").warm_start
    assert start is not None
    assert (start.study, start.source) == (None, str(best_of(campaign).absolute()))
    assert "finished" in campaign.call("run", file, "--warm-start", folder)


# --- what is found --------------------------------------------------------------------------------------------------


def test_a_path_starts_at_the_study_file(tmp_path: Path) -> None:
    file = policy(tmp_path / "studies" / "start.pt")

    found = find_warm_start(
        CampaignPaths(tmp_path / "runs"), far_spec(warm_start={"checkpoint": "start.pt"}), tmp_path / "studies"
    )

    assert found is not None
    assert (found.sha256, found.source, found.env_steps) == (fs.sha256(file), str(file), None)
    assert str(found) == f"the policy of {file}"
    assert not (tmp_path / "runs").exists()


def test_a_file_of_another_program_will_do(tmp_path: Path) -> None:
    from tests.support.foreign import SharedModel, skrl_14, skrl_agent

    file, model = tmp_path / "agent.pt", SharedModel((32, 16), (32, 16))
    torch.save(skrl_14(model, skrl_agent(model)), file)

    found = find_warm_start(
        CampaignPaths(tmp_path / "runs"), far_spec(warm_start={"checkpoint": str(file)}), Path("elsewhere")
    )

    assert found is not None
    assert found.source == str(file)


# --- what is refused ------------------------------------------------------------------------------------------------


def refused(paths: CampaignPaths, folder: Path, **changes: Any) -> str:
    with pytest.raises(CampaignError) as error:
        find_warm_start(paths, far_spec(**changes), folder)
    assert error.value.exit_code == 2
    return str(error.value)


def test_studies_without_a_policy_are_refused(tmp_path: Path) -> None:
    paths = CampaignPaths(tmp_path / "runs")
    nowhere = refused(paths, tmp_path, warm_start={"study": "walk"})
    assert "no study 'walk' in" in nowhere
    assert "Known studies: none yet" in nowhere
    assert not paths.root.exists()
    store_study(paths)

    assert "Did you mean 'walk'? Known studies: walk." in refused(paths, tmp_path, warm_start={"study": "wakl"})
    failed = refused(paths, tmp_path, warm_start={"study": "walk", "trial": 2})
    assert "trial 2 of study 'walk' is failed. Complete or pruned trials: 0, 1." in failed
    assert "has no trial 9. Complete" in refused(paths, tmp_path, warm_start={"study": "walk", "trial": 9})
    assert "trial 1 of study 'walk' has no policy" in refused(paths, tmp_path, warm_start={"study": "walk", "trial": 1})
    # Its files are no policies, but test data.
    assert "cannot be read" in refused(paths, tmp_path, warm_start={"study": "walk"})


def test_a_study_without_a_complete_trial_is_refused(tmp_path: Path) -> None:
    from tests.support.snapshots import make_spec
    from vbot_campaign.study import CampaignStudy, open_storage

    paths = CampaignPaths(tmp_path / "runs")
    storage = open_storage(paths)
    CampaignStudy.create(storage, make_spec())
    storage.close()

    message = refused(paths, tmp_path, warm_start={"study": "walk"})

    assert "study 'walk' has no complete trial yet (it is created)" in message
    assert "vbot-campaign resume walk" in message


@pytest.mark.slow
def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    paths = CampaignPaths(tmp_path / "runs")
    policy(tmp_path / "wide.pt", policy=(64, 32))
    policy(tmp_path / "blind.pt", observations=48)
    (tmp_path / "notes.pt").write_text("not a checkpoint")

    def complaint(name: str) -> str:
        return refused(paths, tmp_path, warm_start={"checkpoint": name})

    wide = complaint("wide.pt")
    assert "wide.pt: its policy_hidden_layer_sizes are [64, 32], the study's are [32, 16]." in wide
    assert "fixed: ppo: {policy_hidden_layer_sizes: [64, 32]}" in wide
    assert "maps 48 observations to 12 actions" in complaint("blind.pt")
    assert "notes.pt cannot be read" in complaint("notes.pt")
    assert "warm_start.checkpoint lost.pt: no file" in complaint("lost.pt")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"warm_start": {}}, "warm_start: needs either study"),
        ({"warm_start": {"study": "a", "checkpoint": "b.pt"}}, "warm_start: needs either study"),
        ({"warm_start": {"checkpoint": "b.pt", "trial": 1}}, "warm_start.trial: is a trial of another study"),
        ({"warm_start": {"study": "far"}}, "'far' is this study itself"),
        ({"warm_start": {"study": "a", "trial": -1}}, "warm_start.trial: -1 is not valid; expected a whole number of"),
        ({"warm_start": {"stduy": "a"}}, "Did you mean 'study'?"),
    ],
)
def test_what_says_nothing_or_too_much_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CampaignError) as error:
        far_spec(**changes)
    assert words in str(error.value)


def test_layers_cannot_be_searched_when_they_are_given() -> None:
    layers = {"policy_hidden_layer_sizes": {"type": "categorical", "choices": [[32, 16], [64, 32]]}}
    fixed = {"ppo": {"rollouts": 16, "mini_batches": 2}}
    study = far_spec(search_space={"ppo": layers}, fixed=fixed)

    with pytest.raises(CampaignError) as error:
        with_warm_start(study, Path("start.pt"))

    assert "search_space.ppo.policy_hidden_layer_sizes: cannot be searched with a warm_start" in str(error.value)


@pytest.mark.slow
def test_a_refused_study_leaves_nothing_behind(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    file = write_far(campaign, warm_start={"checkpoint": "wide.pt"})
    policy(tmp_path / "wide.pt", policy=(64, 32))

    output = finish(campaign.start("run", file), code=2)

    assert "error: warm_start.checkpoint wide.pt: its policy_hidden_layer_sizes are [64, 32]" in output
    assert not campaign.runs.root.exists()
    assert "WARNING: The study cannot be started yet." in campaign.call("check", file)
