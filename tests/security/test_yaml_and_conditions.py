"""Study files: nothing in them is executed, and nothing in them can eat the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.support.faults import refused
from tests.support.study_text import write_study

BOMBS = [
    "!!python/object/apply:os.system ['touch {proof}']",
    "!!python/object/new:subprocess.Popen [['touch', '{proof}']]",
    "!!python/name:os.system ''",
    "!!python/module:os ''",
    "!!python/object:os.path {{}}",
    "!include /etc/passwd",
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_tag_is_refused_with_its_line_and_nothing_runs(bomb, tmp_path, capfd):
    proof = tmp_path / "proof"
    file = write_study(tmp_path, ("physics: mujoco", f"physics: {bomb.format(proof=proof)}"))
    error = refused(capfd, "--runs", tmp_path / "runs", "run", file)
    assert error.startswith(f"error: {file}:3: physics: the tag ")
    assert not proof.exists()
    assert not (tmp_path / "runs").exists()


def test_a_billion_laughs_end_after_some_thousand(tmp_path, capfd):
    laughs = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    laughs += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    file = tmp_path / "laughs.yaml"
    file.write_text("\n".join(["study: laughs", *laughs]) + "\n")
    began = time.process_time()
    error = refused(capfd, "--runs", tmp_path / "runs", "check", file)
    assert "more than 20000 values; aliases repeat too much" in error
    assert time.process_time() - began < 30.0


def test_an_alias_to_itself_and_a_deep_nest_are_refused(tmp_path, capfd):
    loop = tmp_path / "loop.yaml"
    loop.write_text("study: loop\nbudget: &a {trials: *a}\n")
    assert "an alias to something that contains it" in refused(capfd, "check", loop)
    deep = tmp_path / "deep.yaml"
    deep.write_text("study: deep\nbudget: " + "[" * 100_000 + "]" * 100_000 + "\n")
    assert "nested too deep" in refused(capfd, "check", deep)


ESCAPES = [
    "__import__('os').system('touch proof')",
    "().__class__.__bases__[0].__subclasses__()",
    "ppo.learning_rate.__class__ == 1",
    "open('proof', 'w')",
    "eval('1')",
    "exec('x = 1')",
    "(lambda: 1)()",
    "[x for x in (1, 2)]",
    "ppo.__dict__ == 1",
    "globals()",
    "9 ** 9 ** 9 ** 9 > 1",
    "'a' * 10 ** 12 == 'b'",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_condition_cannot_reach_python(escape, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = escape.replace("'", "''")
    old = '{skip_if: "ppo.learning_rate > 5e-4 and ppo.rollouts < 20", reason: unstable}'
    file = write_study(tmp_path, (old, f"{{skip_if: '{text}'}}"))
    error = refused(capfd, "--runs", tmp_path / "runs", "run", file)
    assert f"{file}:23: constraints" in error
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_the_same_from_the_command_line_of_a_fresh_process(tmp_path):
    file = write_study(tmp_path, ("physics: mujoco", f"physics: {BOMBS[0].format(proof=tmp_path / 'proof')}"))
    done = subprocess.run(
        [sys.executable, "-m", "vbot_campaign.cli", "run", str(file)],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]
