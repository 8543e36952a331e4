"""Running out of memory is a class of its own, wherever it happens, and there is enough left to say so."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.workers import TINY, start_worker, tiny_trial
from vbot_campaign.errors import CheckpointCorruptError, DivergedError, SpecError
from vbot_campaign.events import Ended, Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.out_of_memory import is_out_of_memory
from vbot_campaign.worker.faults import classify

LIMIT = 1 << 30
"""Of address space; a worker with a few environments takes two thirds of it."""
LIMITED = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_AS, ({0}, {0})); os.execv(sys.argv[1], sys.argv[1:])"
)


def run_limited(paths: TrialPaths) -> tuple[int, Result]:
    """Run a worker that may not have more than the limit, set before it begins."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", LIMITED.format(LIMIT), sys.executable, "-m", "vbot_campaign.worker"]
    with paths.log.open("ab") as log:
        code = subprocess.run([*command, paths.root], stdout=log, stderr=log, env=environment, timeout=240).returncode
    result = Result.read(paths.result)
    assert result is not None, f"exit code {code}: {paths.log.read_text()}"
    return code, result


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS") or sys.platform == "darwin", reason="no limit to set")
@pytest.mark.parametrize(
    ("num_envs", "rollouts", "iteration"),
    [
        (1_000_000, 2, 0),  # while the environment is made
        (100_000, 48, 0),  # while the learner is
        (20_000, 24, 1),  # in the update
    ],
)
def test_too_many_environments_for_the_memory(tmp_path: Path, num_envs: int, rollouts: int, iteration: int) -> None:
    ppo = {**TINY["ppo"], "rollouts": rollouts, "policy_hidden_layer_sizes": [512, 512]}
    paths = tiny_trial(tmp_path, num_envs=num_envs, env_steps=10**9, ppo=ppo)
    code, result = run_limited(paths)
    assert (code, result.state) == (11, Ended.OUT_OF_MEMORY), result.error
    assert (result.token, result.attempt, result.iteration) == ("token-1", 1, iteration)
    assert result.reason


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_real_lack_of_gpu_memory(tmp_path: Path) -> None:
    # One layer's output for 128,000 transitions is 2 GB; another process leaves 1 GB of the GPU.
    ppo = {**TINY["ppo"], "rollouts": 64, "policy_hidden_layer_sizes": [4096, 4096], "mini_batches": 1}
    paths = tiny_trial(tmp_path, num_envs=2000, env_steps=10**9, ppo=ppo)
    spec = paths.spec.read_text(encoding="utf-8").replace('"device": "cpu"', '"device": "cuda:0"')
    paths.spec.write_text(spec, encoding="utf-8")
    ballast = torch.empty(torch.cuda.mem_get_info()[0] - (1 << 30), dtype=torch.uint8, device="cuda")
    try:
        assert start_worker(paths).wait(timeout=300) == 11, paths.log.read_text()
    finally:
        del ballast
        torch.cuda.empty_cache()
    result = Result.read(paths.result)
    assert result is not None
    assert result.state is Ended.OUT_OF_MEMORY
    assert "memory" in result.reason


# --- the class of an error ------------------------------------------------------------------------------------------


def chained(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("the environment could not be made") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (MemoryError(), Ended.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), Ended.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), Ended.OUT_OF_MEMORY),
        (ValueError("std::bad_alloc"), Ended.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory"), Ended.OUT_OF_MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), Ended.OUT_OF_MEMORY),
        (chained(MemoryError()), Ended.OUT_OF_MEMORY),
        (chained(ValueError("another")), Ended.FAILED),
        (OSError(errno.ENOSPC, "No space left on device"), Ended.DISK_FULL),
        (OSError(errno.EFBIG, "File too large"), Ended.DISK_FULL),
        (OSError(errno.EACCES, "Permission denied"), Ended.FAILED),
        (DivergedError("iteration 3"), Ended.DIVERGED),
        (SpecError("ppo.rollouts"), Ended.INVALID),
        (ValueError("the batch is out of memory range"), Ended.FAILED),
    ],
    ids=lambda value: f"{type(value).__name__}-{value}"[:40],
)
def test_errors_have_their_class(error: Exception, state: Ended) -> None:
    assert classify(error) is state


def test_a_lack_of_memory_does_not_condemn_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agent_1.pt"
    record = checkpoint.save(path, {"policy": {}, "vbot_campaign": {}}, {})

    def no_memory(*_: Any, **__: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", no_memory)
    with pytest.raises(RuntimeError) as caught:
        checkpoint.load(path, record.sha256)
    assert is_out_of_memory(caught.value)
    with pytest.raises(CheckpointCorruptError):
        checkpoint.load(path)  # nobody vouches for what its bytes ask for
