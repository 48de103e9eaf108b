"""A Ray cluster of two nodes labels every picture once, whatever becomes of a node."""

import json
import os
import threading
import time

import pytest
from PIL import Image

import tfdefense as td
from tfdefense._cluster import to_bytes
from tfdefense.prediction import cluster


@pytest.fixture(scope="module")
def pictures(held_out, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for place, image in enumerate(held_out.x[:90]):
        Image.fromarray((image[..., 0] * 255).round().astype("uint8")).save(folder / f"{place:03}.png")
    (folder / "090.png").write_bytes(b"no picture")
    return folder


def rows(folder):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install tfdefense[parquet]")
    return [row for path in sorted(folder.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]


@pytest.mark.long
def test_every_picture_is_labelled_once_though_a_node_is_killed(defended, pictures, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tfdefense[cluster]'")
    import ray
    from ray.cluster_utils import Cluster

    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    monkeypatch.setenv("PYTHONPATH", root)
    output, begun = tmp_path / "labels", tmp_path / "begun"
    begun.mkdir()
    doomed = []

    class Slow(cluster.Labeller):
        """Leaves a note on where it began a part. On a doomed node the third is never done."""

        def __call__(self, files):
            import ray

            node = ray.get_runtime_context().get_node_id()
            (begun / f"{os.path.basename(files[0])} {node}").touch()
            time.sleep(600 if node in doomed and len(list(begun.glob(f"* {node}"))) == 3 else 0.15)
            return super().__call__(files)

    monkeypatch.setattr(cluster, "Labeller", Slow)
    local = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    killed = []
    try:
        lost = local.add_node(num_cpus=1)
        doomed.append(lost.node_id)
        local.wait_for_nodes()

        def kill():
            while len(list(begun.glob(f"* {lost.node_id}"))) < 3:
                time.sleep(0.02)
            killed.append(len(list(output.glob("*.parquet"))))
            local.remove_node(lost, allow_graceful=False)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        cluster.predict_on_ray(defended, pictures, output, local.address, part=2)
        killer.join(timeout=60)
        assert killed and killed[0] < 45 and len(local.list_all_nodes()) == 1
        assert len(list(begun.iterdir())) > 46, "no part was begun on both nodes: none was lost"
        found = rows(output)
        names = sorted(str(path) for path in pictures.iterdir())
        assert [row["file"] for row in found] == names, "each once, in their order"
        one = td.predict(defended, pictures)
        assert [row["label"] for row in found] == one.label.tolist()
        assert [row["reason"] for row in found] == [one.why(place) for place in range(len(one))]
        assert found[-1]["reason"].startswith("unreadable")

        # Stopped and begun again: what is there stays, what is missing comes.
        before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
        (output / "part-000003.parquet").unlink()
        cluster.predict_on_ray(defended, pictures, output, local.address, part=2)
        after = {path.name: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
        assert [name for name in before if before[name] != after[name]] == ["part-000003.parquet"] and rows(output) == found
        with pytest.raises(ValueError, match="another run, with other files, parts"):
            cluster.predict_on_ray(defended, pictures, output, local.address, part=5)

        # The command says what it found, in parts that were there as well.
        from tests.cli.test_service import run

        defended.save(tmp_path / "defended.keras")
        where = ("--output", tmp_path / "by-command", "--ray", local.address)
        said = run("predict", tmp_path / "defended.keras", pictures, *where, code=3).stdout
        assert f"{tmp_path / 'by-command'}: 91 pictures" in said and "1 unreadable" in said
        by_command = rows(tmp_path / "by-command")
        assert [(row["file"], row["label"]) for row in by_command] == [(row["file"], row["label"]) for row in found]
    finally:
        ray.shutdown()
        local.shutdown()


def test_what_a_cluster_can_not_do_is_said_before_it_is_asked(defended, pictures, held_out, tmp_path):
    for options in ({}, {"output": tmp_path / "a", "devices": ["CPU:0"]}):
        with pytest.raises(ValueError, match="With `ray` labels are written as they come"):
            td.predict(defended, pictures, ray="auto", **options)
    with pytest.raises(ValueError, match="expected paths. Received: ndarray"):
        td.predict(defended, held_out.x, ray="auto", output=tmp_path / "a")
    with pytest.raises(ValueError, match="each worker loads a Keras model. Received a function"):
        td.predict(lambda x: x, pictures, ray="auto", output=tmp_path / "a")
    with pytest.raises(ValueError, match="No Ray cluster answers at 'auto'"):
        td.predict(defended, pictures, ray="auto", output=tmp_path / "c")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="holds Parquet files of something else"):
        td.predict(defended, pictures, ray="auto", output=tmp_path / "b")


def test_a_run_is_known_by_its_weights_and_files(defended, classifier, tmp_path):
    content, is_defended = to_bytes(defended)
    assert is_defended and not to_bytes(classifier)[1]
    parts = cluster._parts([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"], 2)
    assert {place: len(files) for place, files in parts.items()} == {0: 2, 1: 1}
    cluster._begin(tmp_path / "x", content, parts, {})
    time.sleep(1.1)  # a file knows the second it was written in
    cluster._begin(tmp_path / "x", to_bytes(defended)[0], parts, {})
    assert set(json.loads((tmp_path / "x" / cluster.MANIFEST).read_text())) == {"model", "files", "parts", "options"}
    with pytest.raises(ValueError, match="with other model"):
        cluster._begin(tmp_path / "x", to_bytes(classifier)[0], parts, {})
