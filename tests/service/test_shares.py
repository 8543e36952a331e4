"""The machine in parts: nobody shares a GPU or a core, and supervisors find their part alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vbot_campaign.errors import CampaignError
from vbot_campaign.service.shares import affinity, divide, environment, in_words

CORES = list(range(10))


def test_one_study_has_the_whole_machine() -> None:
    assert divide(1, ["a", "b"], CORES) == [()]
    assert environment((), {"PATH": "p"}) == {"PATH": "p"}
    assert in_words(()) == ""


def test_parts_are_equal_and_nobody_shares_one() -> None:
    parts = divide(3, ["a", "b", "c", "d"], CORES)
    assert [part[: -len([p for p in part if p.startswith("cpu")])] for part in parts] == [
        ("gpu:a", "gpu:d"),
        ("gpu:b",),
        ("gpu:c",),
    ]
    cores = [[p for p in part if p.startswith("cpu")] for part in parts]
    assert [len(part) for part in cores] == [3, 3, 4]
    assert sorted(core for part in cores for core in part) == sorted(f"cpu:{core}" for core in CORES)
    assert in_words(parts[0]) == "2 GPUs, 3 cores"


@pytest.mark.parametrize(
    ("parallel", "gpus", "cores", "message"),
    [
        (3, ["a", "b"], CORES, "there are 2 GPUs to use.* Give 2 at most"),
        (2, ["a"], CORES, "there is 1 GPU to use"),
        (3, [], [0, 1], "there are 2 CPU cores to use"),
    ],
)
def test_more_studies_than_parts_are_refused(parallel: int, gpus: list[str], cores: list[int], message: str) -> None:
    with pytest.raises(CampaignError, match=f"--parallel {parallel}: {message}"):
        divide(parallel, gpus, cores)


def test_gpus_go_by_variable_and_no_gpu_is_said_too() -> None:
    assert environment(("gpu:GPU-1", "gpu:GPU-2", "cpu:0"), {"A": "1"}) == {
        "A": "1",
        "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2",
    }
    assert environment(("cpu:0",), {})["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system knows no affinity")
def test_a_process_is_born_with_its_cores_and_ours_stay_as_they_were() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    with affinity((f"cpu:{core}",)):
        code = "from vbot_campaign.supervisor.slots import available_cores; print(available_cores())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.strip() == "1"
    assert os.sched_getaffinity(0) == before
