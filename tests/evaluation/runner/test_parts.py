"""Parts of a run by this process, by several, and by a Ray cluster that loses a node: always the same results."""

import concurrent.futures
import os
import signal
import time

import pytest

from evaluation.runner.parts import Local, Ray, executor_for, gpus, one_of, run_parts


def cube(number, seconds=0.0):
    time.sleep(seconds)
    return number**3


def cube_but_die_once(number, mark):
    """The first process that comes here is killed, as by the system when memory runs out."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return number**3
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number):
    raise ValueError(f"part {number} is wrong")


PARTS = {f"part {number}": (cube, number) for number in range(6)}
CUBES = {f"part {number}": number**3 for number in range(6)}


def test_parts_here_and_elsewhere_give_the_same():
    seen = []
    assert run_parts(PARTS, done=lambda name, result: seen.append((name, result))) == CUBES
    assert seen == list(CUBES.items())
    with executor_for(2) as executor:
        found = run_parts(PARTS, executor)
    assert list(found.items()) == list(CUBES.items()), "in the order of the parts, whoever was first"


def test_part_whose_process_is_killed_is_begun_anew(tmp_path):
    with executor_for(2) as executor:
        parts = PARTS | {"deadly": (cube_but_die_once, 9, tmp_path / "mark")}
        assert run_parts(parts, executor) == CUBES | {"deadly": 729}


def test_error_of_a_part_ends_the_run():
    with executor_for(2) as executor, pytest.raises(ValueError, match="part 3 is wrong"):
        run_parts({"good": (cube, 2), "bad": (fail, 3)}, executor)


def test_error_where_parts_are_handed_out_is_told(tmp_path):
    class Full:
        def __init__(self):
            self.given = []

        def submit(self, function, *arguments):
            if self.given:
                raise OSError("no room")
            self.given.append(concurrent.futures.Future())
            return self.given[0]

    executor = Full()
    with pytest.raises(OSError, match="no room"):
        run_parts(PARTS, executor)
    assert executor.given[0].cancelled()


def cube_at(number, mark):
    mark.write_text(str(os.getpid()))
    return cube(number, 90)


def test_processes_end_in_the_middle_of_a_part(tmp_path):
    executor = Local(1)
    executor.submit(cube_at, 2, tmp_path / "mark")
    executor.submit(cube_at, 3, tmp_path / "later")
    while not (tmp_path / "mark").exists() or not (tmp_path / "mark").read_text():
        time.sleep(0.1)
    began = time.monotonic()
    executor.close()
    assert time.monotonic() - began < 60 and not (tmp_path / "later").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "mark").read_text()), 0)


def seen_gpu(seconds):
    time.sleep(seconds)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def test_processes_are_counted(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with executor_for(2) as executor:
        # So long that each process gets one.
        assert sorted(run_parts({"a": (seen_gpu, 8), "b": (seen_gpu, 8)}, executor).values()) == ["4", "7"]


def test_one_worker_is_this_process():
    with executor_for(1) as executor:
        assert executor is None


def test_each_process_gets_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [one_of(gpus(), index)["CUDA_VISIBLE_DEVICES"] for index in range(3)] == ["4", "7", "4"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert one_of(gpus(), 1) == {}, "no GPU here"
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: one (UUID: a)'\necho 'GPU 1: two (UUID: b)'\n")
    tool.chmod(0o755)
    assert gpus() == ["0", "1"]


def seen_place(name):
    return os.environ.get(name)


def test_processes_share_the_cores():
    executor = Local(2)
    try:
        share = str(max(1, (os.cpu_count() or 1) // 2))
        assert run_parts({"a": (seen_place, "TF_NUM_INTRAOP_THREADS")}, executor) == {"a": share}
    finally:
        executor.close()


@pytest.mark.long
def test_a_ray_cluster_that_loses_a_node_gives_the_same():
    """Two nodes on this machine, of which the one without the driver is killed while it works."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tfdefense[cluster]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        lost = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        executor = Ray(cluster.address)
        assert executor.workers == 2
        slow = {name: (*part, 1.5) for name, part in PARTS.items()}
        killed = []

        def done(name, result):
            if not killed:
                killed.append(len(cluster.list_all_nodes()))
                time.sleep(0.7)  # In the middle of its next part.
                cluster.remove_node(lost, allow_graceful=False)

        assert run_parts(slow, executor, done) == CUBES
        assert killed == [2] and len(cluster.list_all_nodes()) == 1
        executor.close()
    finally:
        cluster.shutdown()
