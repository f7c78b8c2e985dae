"""Which GPU a task takes (spark_jobs/cluster/devices.py); where there are none to try it with, by their names."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from pyspark import SparkConf

from longtail import conf
from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.devices import gpu_profile, index_of, raise_unless_alike

A, B = "GPU-8f6a3b1c-0000", "GPU-77e2d9aa-1111"


@pytest.mark.parametrize(
    ("address", "visible", "index"),
    [
        ("0", None, 0),
        ("1", None, 1),
        ("1", "", 1),
        # PyTorch numbers the entries of CUDA_VISIBLE_DEVICES, whatever their own numbers are.
        ("5", "4,5", 1),
        ("4", " 4 , 5", 0),
        (B, None, 1),
        (B, f"{B},{A}", 0),
        (B, "GPU-8f6a,GPU-77e2", 1),
        (B, "4,5", 1),
        ("MIG-3d1c", "MIG-3d1c,MIG-99", 0),
        ("MIG-GPU-8f6a/1/0", "MIG-GPU-8f6a/1/0", 0),
    ],
)
def test_a_granted_gpu_is_found_by_number_uuid_or_name_of_its_part(
    address: str, visible: str | None, index: int
) -> None:
    assert index_of(address, visible, [A, B]) == index


@pytest.mark.parametrize(
    ("address", "visible", "seen"),
    [
        ("2", None, "PyTorch sees 2"),
        ("0", "4,5", "CUDA_VISIBLE_DEVICES=4,5"),
        ("0", f"{A},{B}", f"CUDA_VISIBLE_DEVICES={A},{B}"),
        ("GPU-unknown", None, "PyTorch sees 2"),
        ("MIG-3d1c", "MIG-77", "CUDA_VISIBLE_DEVICES=MIG-77"),
        # CUDA ends the list at an entry that it does not know: PyTorch sees two of three.
        ("6", "4,5,6", "CUDA_VISIBLE_DEVICES=4,5,6"),
    ],
)
def test_a_granted_gpu_that_pytorch_does_not_see_is_named(address: str, visible: str | None, seen: str) -> None:
    with pytest.raises(UserError, match=f"Spark grants the GPU {address} on .*{seen}.* print their UUIDs"):
        index_of(address, visible, [A, B])


@pytest.mark.parametrize(
    ("cores", "task_cpus", "gpus", "share"),
    [(1, 1, 1, 1), (8, 8, 1, 1), (8, 1, 2, 1 / 4), (5, 1, 2, 1 / 3), (4, 2, 1, 1 / 2), (64, 1, 2, 1 / 8), (2, 1, 4, 1)],
)
def test_inference_tasks_share_a_gpu_so_that_all_cores_work_and_a_rank_has_one(
    cores: int, task_cpus: int, gpus: int, share: float
) -> None:
    settings = SparkConf(loadDefaults=False).set("spark.master", "spark://host:7077")
    assert gpu_profile(settings, shared=True) is None
    settings.set("spark.executor.cores", str(cores)).set("spark.task.cpus", str(task_cpus))
    settings.set("spark.executor.resource.gpu.amount", str(gpus))
    for shared, expected in ((True, share), (False, 1.0)):
        profile = gpu_profile(settings, shared=shared)
        assert profile is not None
        amounts = {name: request.amount for name, request in profile.taskResources.items()}
        assert amounts == {"cpus": task_cpus, "gpu": expected}
    # Where every task is given a GPU already, and where there are no executors, nothing is asked for.
    assert gpu_profile(settings.set("spark.task.resource.gpu.amount", "0.25"), shared=True) is None


def test_hosts_with_and_without_gpus_are_refused_together() -> None:
    with pytest.raises(UserError, match="rank 1 on b has a GPU and rank 0 on a has none: use hosts of one kind"):
        raise_unless_alike([["a", "cpu", ""], ["b", "cuda", "1"], ["b", "cuda", "2"]], shared=False)


def test_two_ranks_have_one_gpu_only_if_they_talk_by_gloo() -> None:
    found = [["a", "cuda", "1"], ["a", "cuda", "2"], ["b", "cuda", "3"], ["b", "cuda", "2"]]
    with pytest.raises(UserError, match="ranks 1 and 3 on b have the same GPU 2: lower --world_size, or .* gloo"):
        raise_unless_alike(found, shared=False)
    raise_unless_alike(found, shared=True)
    raise_unless_alike(found[:3], shared=False)
    raise_unless_alike([["a", "cpu", ""]] * 3, shared=False)


def test_the_discovery_script_prints_uuids_and_of_a_divided_gpu_those_of_its_parts(tmp_path: Path) -> None:
    nvidia_smi = tmp_path / "nvidia-smi"
    nvidia_smi.write_text(
        "#!/bin/sh\ncat <<END\n"
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-8f6a3b1c-aaaa)\n"
        "  MIG 3g.20gb     Device  0: (UUID: MIG-1111-2222)\n"
        "  MIG 3g.20gb     Device  1: (UUID: MIG-3333-4444)\n"
        "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-77e2d9aa-bbbb)\n"
        "GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-99e2d9aa-cccc)\n"
        "END\n"
    )
    nvidia_smi.chmod(0o755)
    script = Path(conf.__file__).parent / "spark-defaults" / "gpu_discovery.sh"
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    printed = subprocess.run([script], env={"PATH": path}, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == {
        "name": "gpu",
        "addresses": ["MIG-1111-2222", "MIG-3333-4444", "GPU-77e2d9aa-bbbb", "GPU-99e2d9aa-cccc"],
    }
