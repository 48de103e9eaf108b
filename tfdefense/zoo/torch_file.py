"""Reads tensors from a file in PyTorch's format of before 2020, without PyTorch and without running code of the file.

Such a file holds five pickles (a magic number, the version, facts of the machine, the tensors by name, the keys of the
storages), then the storages: how many numbers, eight bytes, and the numbers. A pickle may call any function that it names.
Here four names pass, and none of them reaches what it is in Python: they are replaced by the classes below.
"""

import io
import math
import pickle
import pickletools

import numpy as np

from tfdefense._untrusted import check_file

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_TYPES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
# What torch writes; others build or call in ways that no tensor needs.
_OPCODES = set("PROTO STOP MARK NONE NEWTRUE NEWFALSE LONG1 BININT BININT1 BININT2 BINUNICODE EMPTY_DICT EMPTY_LIST".split())
_OPCODES |= set("EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS APPEND APPENDS REDUCE BUILD GLOBAL BINPERSID".split())
_OPCODES |= set("BINPUT LONG_BINPUT BINGET LONG_BINGET".split())
_MOST_PICKLED = 2**22  # bytes of one pickle: names and shapes of some ten thousand tensors
_MOST_DIMENSIONS = 8


class _Dict(dict):
    """An ordered dict, which torch gives notes as attributes: they are dropped."""

    def __setstate__(self, state):
        pass


class _Storage:
    """Numbers that stand further behind in the file."""

    def __init__(self, dtype, key, count):
        self.dtype, self.key, self.count = np.dtype(dtype), key, count


class _Tensor:
    """A view of a storage, as the pickle describes it."""

    def __init__(self, storage, offset, shape, strides, *_):
        whole = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= _MOST_DIMENSIONS
        if not isinstance(storage, _Storage) or not whole or not all(map(_is_count, (offset, *shape, *strides))):
            raise ValueError("a tensor is described in no known way")
        last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        # A stride of 0 would make a huge tensor of one number.
        if math.prod(shape) > storage.count or (math.prod(shape) and last >= storage.count):
            raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {storage.count} numbers")
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self, numbers):
        size = self.storage.dtype.itemsize
        strides = tuple(stride * size for stride in self.strides)
        # `numbers` goes on living behind a view: the tensor gets numbers of its own.
        return np.ndarray(self.shape, self.storage.dtype, numbers, self.offset * size, strides).copy()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        name = f"{module} {name}"
        if name in _TYPES:
            return name
        if name in (_DICT, _TENSOR):
            return {_DICT: _Dict, _TENSOR: _Tensor}[name]
        raise ValueError(f"it asks for {name[:80]!r}, which no tensor needs")

    def persistent_load(self, about):
        kind, dtype, key, _, count, view = about
        if kind != "storage" or dtype not in _TYPES or not isinstance(key, str) or not _is_count(count) or view is not None:
            raise ValueError("a storage is described in no known way")
        return _Storage(_TYPES[dtype], key, count)


def read_tensors(path):
    """Arrays by name. Anything but a whole file of plain tensors is refused in one sentence that names the file."""
    path = check_file(path)
    content = path.read_bytes()
    try:
        return _tensors(content)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} can't be read as tensors of PyTorch: {reason}. Expected the file as its package has it."
        ) from None


def _tensors(content):
    file = io.BytesIO(content)
    if _unpickled(file) != _MAGIC:
        raise ValueError("it does not begin as such a file does")
    if _unpickled(file) != _VERSION:
        raise ValueError("it is of another version")
    machine = _unpickled(file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("its numbers are not little-endian")
    tensors, keys = _unpickled(file), _unpickled(file)
    if not isinstance(tensors, dict) or not all(isinstance(name, str) for name in tensors):
        raise ValueError("it holds no tensors by name")
    # Facts beside the tensors would have to be understood.
    if not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise ValueError("it holds something else than tensors")
    storages = {}
    for storage in (tensor.storage for tensor in tensors.values()):
        known = storages.setdefault(storage.key, storage)
        if (known.dtype, known.count) != (storage.dtype, storage.count):
            raise ValueError("a storage is described in two ways")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise ValueError("the storages are not those that its tensors need")
    numbers = {key: _numbers(file, storages[key]) for key in keys}
    if file.read(1):
        raise ValueError("more follows where it should end")
    return {name: tensor.array(numbers[tensor.storage.key]) for name, tensor in tensors.items()}


def _unpickled(file):
    """The next pickle, looked through before it is read: an unpickler takes memory for whatever number it is told."""
    start = file.tell()
    for number, (opcode, argument, position) in enumerate(pickletools.genops(file)):
        if opcode.name not in _OPCODES or (position or 0) - start > _MOST_PICKLED:
            raise ValueError(f"its pickle has {opcode.name}, or a length, which no tensor needs")
        if opcode.name == "LONG_BINPUT" and (argument or 0) > number:
            raise ValueError("its pickle counts wrongly")
    end = file.tell()
    file.seek(start)
    return _Unpickler(io.BytesIO(file.read(end - start))).load()


def _numbers(file, storage):
    size = storage.count * storage.dtype.itemsize
    told = int.from_bytes(file.read(8), "little")
    content = file.read(size)
    if told != storage.count or len(content) != size:
        raise ValueError(f"a storage of {storage.count} numbers is not there, or cut off")
    return content


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40
