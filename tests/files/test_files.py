"""After a write that was interrupted the path holds what it held before, whole, and nothing lies beside it."""

import errno
import os
import signal
import threading
import time

import pytest

from tfdefense import _files
from tfdefense._files import write_file, write_folder, write_text


def folder_of(text):
    """A `write` for `write_folder`: two files that must agree."""

    def write(new):
        (new / "inner").mkdir(parents=True)
        (new / "a").write_text(text)
        (new / "inner" / "b").write_text(text)

    return write


def content(path):
    if path.is_dir():
        return {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()}
    return path.read_text()


def in_child(work):
    """Runs in a forked process; gives the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die(*ignored):
    os.kill(os.getpid(), signal.SIGKILL)


WRITES = {"file": (write_file, lambda text: lambda new: new.write_text(text)), "folder": (write_folder, folder_of)}


@pytest.fixture(params=WRITES)
def kind(request, tmp_path):
    """`write(text)` puts it at the path, `broken(raise_)` stops half way through the same."""
    write, make = WRITES[request.param]
    path = tmp_path / "out.keras"

    def broken(stop):
        def half(new):
            make("half")(new)
            stop()

        write(path, half)

    return path, lambda text: write(path, make(text)), broken


def test_new_content_takes_the_place_of_the_old(kind):
    path, write, _ = kind
    write("old")
    old = content(path)
    write("new")
    assert content(path) != old and "new" in str(content(path))
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_error_leaves_the_old(kind, error):
    path, write, broken = kind

    def stop():
        raise error("stopped")

    with pytest.raises(error):
        broken(stop)
    assert os.listdir(path.parent) == []
    write("old")
    old = content(path)
    with pytest.raises(error):
        broken(stop)
    assert content(path) == old and os.listdir(path.parent) == [path.name]


def test_readers_see_the_old_while_the_new_is_written(kind):
    path, write, broken = kind
    write("old")
    old, seen = content(path), []
    broken(lambda: seen.append((content(path), [name for name in os.listdir(path.parent) if not name.startswith(".")])))
    assert seen == [(old, [path.name])]


def test_kill_leaves_the_old_and_the_next_write_cleans_up(kind):
    path, write, broken = kind
    write("old")
    old = content(path)
    assert in_child(lambda: broken(die)) == -signal.SIGKILL
    assert content(path) == old
    assert len(os.listdir(path.parent)) == 2, "the killed process had begun to write"
    write("new")
    assert os.listdir(path.parent) == [path.name]


def test_writers_at_work_are_left_alone(kind):
    path, write, broken = kind
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(60)

    first = threading.Thread(target=broken, args=(slow,))
    first.start()
    begun.wait(60)
    write("second")
    assert in_child(lambda: write("third")) == 0
    go_on.set()
    first.join()
    assert "half" in str(content(path)), "who finishes last has the last word"
    assert os.listdir(path.parent) == [path.name]


def test_leftovers_of_other_machines_go_after_a_day(tmp_path):
    # Locks need not reach across the network, so nobody here knows whether their writers are alive.
    young, old = (tmp_path / f"{_files._PREFIX}0badc0de-{age}" for age in ("young", "old"))
    young.mkdir()
    old.mkdir()
    os.utime(old, (time.time() - 90_000,) * 2)
    write_text(tmp_path / "a.txt", "new")
    assert sorted(os.listdir(tmp_path)) == sorted([young.name, "a.txt"])


@pytest.fixture
def two_steps(monkeypatch):
    """As on a disk that can't exchange two folders in one step."""
    monkeypatch.setattr(_files, "_exchange", lambda one, other: False)


def second_rename(stop):
    """`os.rename`, and `stop` in place of the second call."""
    calls, rename = [], os.rename

    def counted(one, other):
        calls.append(one)
        return stop() if len(calls) == 2 else rename(one, other)

    return counted


def test_folder_is_put_back_when_the_second_rename_fails(tmp_path, two_steps, monkeypatch):
    path = tmp_path / "served"
    write_folder(path, folder_of("old"))
    write_folder(path, folder_of("older"))
    before = content(path)

    def fail():
        raise PermissionError(errno.EACCES, "in use")

    monkeypatch.setattr(os, "rename", second_rename(fail))
    with pytest.raises(PermissionError):
        write_folder(path, folder_of("new"))
    assert content(path) == before and os.listdir(tmp_path) == ["served"]


def test_folder_moved_aside_by_a_killed_process_comes_back(tmp_path, two_steps, monkeypatch):
    path = tmp_path / "served"
    write_folder(path, folder_of("old"))
    before = content(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", second_rename(die))
        assert in_child(lambda: write_folder(path, folder_of("new"))) == -signal.SIGKILL
    assert not path.exists(), "killed between the two renames"
    write_text(tmp_path / "other.txt", "")
    assert content(path) == before and sorted(os.listdir(tmp_path)) == ["other.txt", "served"]


@pytest.mark.parametrize("steps", ["one", "two"])
def test_folders_of_several_writers_are_never_mixed(tmp_path, steps, monkeypatch):
    if steps == "two":
        monkeypatch.setattr(_files, "_exchange", lambda one, other: False)
    path = tmp_path / "served"
    children = []
    for writer in range(4):
        child = os.fork()
        if child == 0:
            failed = 1
            try:
                for number in range(10):
                    write_folder(path, folder_of(f"{writer} {number}"))
                failed = 0
            finally:
                os._exit(failed)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0, 0, 0, 0]
    assert len(set(content(path).values())) == 1 and len(content(path)) == 2
    assert os.listdir(tmp_path) == ["served"]


def test_permissions_and_links_stay(tmp_path):
    path, link = tmp_path / "real" / "a.txt", tmp_path / "link.txt"
    write_text(path, "old")
    plain = tmp_path / "plain.txt"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode, "a new file has the permissions that any program gives"
    path.chmod(0o640)
    link.symlink_to(path)
    write_text(link, "new")
    assert path.read_text() == "new" and link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    served = tmp_path / "served"
    write_folder(served, folder_of("old"))
    served.chmod(0o750)
    write_folder(served, folder_of("new"))
    assert served.stat().st_mode & 0o777 == 0o750


def test_what_is_no_file_is_refused(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "file").write_text("kept")
    for path, write, error in (
        (pipe, write_file, "device or a pipe"),
        (tmp_path, write_file, "this is a folder"),
        (tmp_path / "file", write_folder, "this is a file"),
    ):
        with pytest.raises(OSError, match=error) as found:
            write(path, lambda new: pytest.fail("nothing should be written"))
        assert str(path) in str(found.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"] and (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_file_is_not_replaced(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="a.txt"):
        write_text(path, "new")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Unable to flush file's cached information (errno = 28, error message = 'No space left on device')"),
        OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
    ],
)
def test_full_disk_is_one_error_that_names_the_path(tmp_path, error):
    def fail(new):
        new.write_text("half")
        raise error

    with pytest.raises(OSError, match="What was there before is unchanged") as found:
        write_file(tmp_path / "a.keras", fail)
    assert found.value.errno == errno.ENOSPC and found.value.filename == str(tmp_path / "a.keras")
    assert os.listdir(tmp_path) == []


def test_errors_name_the_path_and_not_the_hidden_one(tmp_path):
    with pytest.raises(FileNotFoundError) as found:
        write_file(tmp_path / "a.keras", lambda new: None)
    assert found.value.filename == str(tmp_path / "a.keras")
