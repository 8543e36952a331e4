"""A checkpoint that carries code: whoever opens it, the code does not run."""

from __future__ import annotations

import pathlib
import pickle
import shutil
import zipfile

import pytest
import torch

from tests.support.faults import refused
from tests.support.study_text import write_study


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, proof: pathlib.Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return (pathlib.Path.touch, (self.proof,))


@pytest.fixture(params=["torch file", "bare pickle"])
def bomb(request, tmp_path):
    """A checkpoint with a bomb, in each form that `torch.load` reads, and the file that it would leave."""
    proof = tmp_path / "proof"
    file = tmp_path / "bomb.pt"
    content = {"policy": {"weight": torch.zeros(2)}, "vbot_campaign": {"env_steps": 1}, "extra": Bomb(proof)}
    if request.param == "torch file":
        torch.save(content, file)
        assert zipfile.is_zipfile(file)
    else:
        file.write_bytes(pickle.dumps(content))
    return file, proof


def test_the_bomb_would_go_off(tmp_path, bomb):
    file, proof = bomb
    copy = tmp_path / "copy.pt"
    shutil.copy(file, copy)
    if zipfile.is_zipfile(copy):
        torch.load(copy, weights_only=False)
    else:
        pickle.loads(copy.read_bytes())  # noqa: S301
    assert proof.exists()


@pytest.mark.parametrize(
    "line", ["evaluate {}", "play {} --trace x.npz", "train --checkpoint {}", "checkpoints import {} --out y.pt"]
)
def test_a_command_that_reads_a_policy_refuses_it(line, bomb, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, proof = bomb
    error = refused(capfd, "--runs", tmp_path / "runs", *line.format(file).split())
    assert str(file) in error
    assert not proof.exists()
    assert not (tmp_path / "y.pt").exists()


@pytest.mark.parametrize("how", ["option", "file"])
def test_a_study_does_not_start_from_it(how, bomb, tmp_path, capfd):
    file, proof = bomb
    study, layers = (
        write_study(tmp_path),
        "    policy_hidden_layer_sizes: {type: categorical, choices: [[128, 64], [256, 128, 64]]}\n",
    )
    text = study.read_text().replace(layers, "")
    study.write_text(text + (f"warm_start: {{checkpoint: {file}}}\n" if how == "file" else ""))
    more = ["--warm-start", file] if how == "option" else []
    error = refused(capfd, "--runs", tmp_path / "runs", "run", study, *more)
    assert str(file) in error
    assert not proof.exists()
    assert not (tmp_path / "runs" / "campaign.db").exists(), "nothing was made"
