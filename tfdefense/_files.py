"""The one way in which this project writes a file or a folder: beside, flushed to disk, then renamed.

Whatever happens on the way (an error, Ctrl-C, a kill, a full disk), the path holds the old content or the new one, whole.
What is being written lies in a hidden folder beside its path. One that a killed process left is removed by the next write.
"""

import contextlib
import ctypes
import errno
import hashlib
import math
import os
import platform
import shutil
import stat
import time
import uuid
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # who locks asks first whether it is there

_PREFIX = ".tfdefense-new-"
_DAY = 24 * 3600


def write_file(path, write):
    """`write(new)` makes the file at `new`, a path of the same name elsewhere on the same disk; then it takes its place.

    A file that is replaced keeps its permissions, and a link keeps pointing at it. The old file goes on until the new one is
    complete, so the disk needs room for both.

    Example: `write_file("report.json", lambda new: new.write_text("{}"))`
    """
    with _errors_of(path):
        target = _target(path)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Expected a file, and this is a folder", str(path))
        with _workspace(target.parent) as workspace:
            new = workspace / target.name
            write(new)
            _flush(new)
            if target.exists():
                _copy_permissions(target, new)
            os.replace(new, target)
            _flush(target.parent)


def write_text(path, text):
    """Writes a text file whole."""
    write_file(path, lambda new: new.write_text(text, encoding="utf-8"))


def write_folder(path, write):
    """`write(new)` makes the folder at `new`, a path that is not there yet; then it takes the place of the old one.

    A program that is reading the old folder meanwhile may find files of both.

    Example: `write_folder("exported", model.export)`
    """
    with _errors_of(path):
        target = _target(path)
        if target.exists() and not target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "Expected a folder, and this is a file", str(path))
        if os.path.ismount(target):
            raise OSError(errno.EBUSY, "A mounted folder can't be replaced. Name a folder inside it", str(path))
        with _workspace(target.parent) as workspace:
            new = workspace / target.name
            write(new)
            for folder, _, files in os.walk(new):
                for name in files:
                    _flush(Path(folder, name))
                _flush(Path(folder))
            if target.exists():
                _copy_permissions(target, new)
            _swap(new, target)
            _flush(target.parent)


def _target(path):
    """Where the bytes go, in a folder that is made if it is missing. Links are followed; a device or a pipe is refused."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        if not (target.is_file() or target.is_dir()):
            raise OSError(errno.EINVAL, "Expected a file or a folder, and this is a device or a pipe", str(path))
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return target


@contextlib.contextmanager
def _errors_of(path):
    """Errors name the path that was asked for, and a full disk is one error, whatever a library makes of it."""
    try:
        yield
    except Exception as error:
        number = _number(error)
        # Copying names two files, of which the second is ours.
        places = [name for name in (getattr(error, "filename", None), getattr(error, "filename2", None)) if name is not None]
        ours = any(_PREFIX in str(name) for name in places)
        place = str(path) if ours or not places else places[0]
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(number, f"{os.strerror(number)}. What was there before is unchanged", place) from error
        if isinstance(error, OSError) and ours:
            raise OSError(error.errno, error.strerror, place) from error
        raise


def _number(error):
    """The system's error number; HDF5 and TensorFlow name a full disk in their text alone."""
    if getattr(error, "errno", None) is not None:
        return error.errno
    texts = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT)}
    return next((number for text, number in texts.items() if text in str(error)), None)


@contextlib.contextmanager
def _workspace(folder):
    """A hidden folder that goes with everything in it. Its lock says that this process is alive."""
    _clean(folder)
    workspace, lock = _locked(folder)
    try:
        yield workspace
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
        _close(lock)


def _locked(folder):
    while True:
        workspace = folder / f"{_PREFIX}{_machine()}-{uuid.uuid4().hex[:12]}"
        workspace.mkdir(mode=0o700)
        lock = _lock(workspace, wait=True)
        if workspace.exists():
            return workspace, lock
        _close(lock)  # another process took it for a dead one, before it was locked


def _machine():
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _lock(workspace, wait):
    """The open lock, or None where there are no locks of folders: on some network disks, on Windows. Held: BlockingIOError.

    Not by filelock, which leaves a file beside: this is the user's own folder.
    """
    if fcntl is None:
        return None
    lock = None
    try:
        lock = os.open(workspace, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return lock
    except BlockingIOError:
        _close(lock)
        raise
    except OSError:
        _close(lock)
        return None


def _close(lock):
    if lock is not None:
        os.close(lock)


def _clean(folder):
    """Removes what killed writers left, and puts a folder back that one of them had moved aside."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.startswith(_PREFIX)]
    for workspace in found:
        # What can't be read, or is held by a living process, stays.
        with contextlib.suppress(OSError):
            # A lock may not reach the other machines that share a disk.
            ours = workspace.name.startswith(f"{_PREFIX}{_machine()}-")
            lock = _lock(workspace, wait=False) if ours else None
            try:
                if lock is not None or time.time() - workspace.stat().st_mtime > _DAY:
                    _put_back(workspace)
                    shutil.rmtree(workspace, ignore_errors=True)
            finally:
                _close(lock)


def _put_back(workspace):
    for aside in (workspace / "aside").glob("*"):
        # Both are there only between the two renames of `_swap`.
        if (workspace / aside.name).exists() and not (workspace.parent / aside.name).exists():
            os.rename(aside, workspace.parent / aside.name)


def _swap(new, target):
    """Puts a folder in the place of another: in one step where the system can do that, else in two."""
    aside = new.parent / "aside" / target.name
    aside.parent.mkdir()
    while not _exchange(new, target):
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, aside)
            os.rename(new, target)
            return
        except BaseException as error:
            if aside.exists() and not target.exists():
                os.rename(aside, target)
            elif isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                # Another process put its folder there in between. Ours comes after it.
                shutil.rmtree(aside, ignore_errors=True)
                continue
            raise


def _exchange(one, other):
    """Whether two paths were exchanged in one step: Linux can do that, on most disks."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _copy_permissions(old, new):
    found = old.stat()
    with contextlib.suppress(OSError, AttributeError):
        os.chown(new, found.st_uid, found.st_gid)
    os.chmod(new, stat.S_IMODE(found.st_mode))


def _flush(path):
    """From the system's memory to the disk."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    # Network disks may flush no folders, and a folder for dropping files into can't be opened.
    with contextlib.suppress(OSError) if folder else contextlib.nullcontext():
        opened = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def plain(value):
    """Six digits for floats; null for what JSON has no number for."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Path):
        return value.name
    return value
