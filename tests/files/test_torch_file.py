"""Files in PyTorch's old format, written here by hand: good ones are read, hostile ones refused before anything of them is run."""

import struct

import numpy as np
import pytest

from tfdefense.zoo.torch_file import read_tensors


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def whole(number):
    return b"J" + struct.pack("<i", number)


def shape(numbers):
    return b"(" + b"".join(map(whole, numbers)) + b"t"


def storage(key, count, kind="torch\nFloatStorage"):
    return b"(" + text("storage") + f"c{kind}\n".encode() + text(key) + text("cpu") + whole(count) + b"NtQ"


ORDERED = b"ccollections\nOrderedDict\n)R"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def tensor(stored, offset, sides, strides):
    return REBUILD + b"(" + stored + whole(offset) + shape(sides) + shape(strides) + b"\x89" + ORDERED + b"tR"


def pickled(content):
    return b"\x80\x02" + content + b"."


def floats(*values):
    return struct.pack("<q", len(values)) + np.array(values, "<f4").tobytes()


MAGIC = pickled(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")
VERSION = pickled(b"M\xe9\x03")
MACHINE = pickled(b"}(" + text("little_endian") + b"\x88u")
NUMBERS = floats(0, 1, 2, 3, 4, 5)
PLAIN = tensor(storage("7", 6), 0, (2, 3), (3, 1))


def tensors(described=PLAIN, name="a"):
    return pickled(ORDERED + b"(" + text(name) + described + b"u")


def keys(*names):
    return pickled(b"](" + b"".join(map(text, names)) + b"e")


def file(magic=MAGIC, version=VERSION, machine=MACHINE, held=None, stored=None, numbers=NUMBERS):
    return magic + version + machine + (tensors() if held is None else held) + (keys("7") if stored is None else stored) + numbers


@pytest.fixture
def read(tmp_path):
    def write_and_read(content):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return read_tensors(path)

    return write_and_read


def test_plain_tensors_are_read(read):
    found = read(file())
    assert list(found) == ["a"] and found["a"].dtype == "float32"
    np.testing.assert_array_equal(found["a"], [[0, 1, 2], [3, 4, 5]])
    found["a"][:] = 0  # numbers of its own


def test_views_are_read_as_they_lie(read):
    turned = tensor(storage("7", 6), 0, (3, 2), (1, 3))
    np.testing.assert_array_equal(read(file(held=tensors(turned)))["a"], [[0, 3], [1, 4], [2, 5]])
    part = tensor(storage("7", 6), 4, (2,), (1,))
    np.testing.assert_array_equal(read(file(held=tensors(part)))["a"], [4, 5])
    scalar = tensor(storage("7", 1, "torch\nLongStorage"), 0, (), ())
    assert read(file(held=tensors(scalar), numbers=struct.pack("<qq", 1, 9)))["a"] == 9


def test_notes_on_the_dict_are_dropped(read):
    noted = ORDERED + b"(" + text("a") + PLAIN + b"u}" + text("_metadata") + ORDERED + b"sb"
    assert set(read(file(held=pickled(noted)))) == {"a"}


def running(path, form):
    """Pickles that would make a file, each in another way."""
    code = f"open({str(path)!r}, 'w').close()"
    return {
        "global": b"cbuiltins\nexec\n(" + text(code) + b"tR",
        "os": b"cposix\nsystem\n(" + text(f"touch {path}") + b"tR",
        "stack global": text("builtins") + text("exec") + b"\x93(" + text(code) + b"tR",
        "instance": b"(" + text(code) + b"ibuiltins\nexec\n",
        "object": b"(cbuiltins\nexec\n" + text(code) + b"o",
        "new object": b"cbuiltins\nexec\n(" + text(code) + b"t\x81",
        "through an allowed name": b"ccollections\nOrderedDict.__init__.__globals__\n",
        "of the reader": b"cnumpy\nload\n(" + text(str(path)) + b"tR",
        "extension": b"\x82\x01",
    }[form]


@pytest.mark.parametrize("place", ["magic", "machine", "held", "tensor", "stored"])
@pytest.mark.parametrize(
    "form",
    ["global", "os", "stack global", "instance", "object", "new object", "through an allowed name", "of the reader", "extension"],
)
def test_code_is_refused_and_not_run(read, tmp_path, form, place):
    made = tmp_path / "made"
    hostile = running(made, form)
    content = file(held=tensors(hostile)) if place == "tensor" else file(**{place: pickled(hostile)})
    with pytest.raises(ValueError, match="weights.pth can't be read as tensors of PyTorch: .*Expected the file as its package"):
        read(content)
    assert not made.exists()


HUGE = 2**31 - 1
STRANGE = {
    "empty": b"",
    "a zip archive, the format of today": b"PK\x03\x04" + bytes(100),
    "text": b"hello",
    "no magic number": file(magic=pickled(b"M\xe9\x03")),
    "another version": file(version=pickled(b"M\xea\x03")),
    "big-endian": file(machine=pickled(b"}(" + text("little_endian") + b"\x89u")),
    "a list of tensors": file(held=pickled(b"](" + PLAIN + b"e")),
    "a number by name": file(held=tensors(whole(3))),
    "a tensor in a number": file(held=tensors(tensor(whole(3), 0, (2,), (1,)))),
    "beyond its storage": file(held=tensors(tensor(storage("7", 6), 0, (2, 4), (3, 1)))),
    "beyond it by its offset": file(held=tensors(tensor(storage("7", 6), 5, (2,), (1,)))),
    "before it": file(held=tensors(tensor(storage("7", 6), -1, (2,), (1,)))),
    "backwards": file(held=tensors(tensor(storage("7", 6), 5, (2,), (-1,)))),
    "huge by a stride of 0": file(held=tensors(tensor(storage("7", 6), 0, (HUGE, HUGE), (0, 0)))),
    "strides of another number": file(held=tensors(tensor(storage("7", 6), 0, (2, 3), (1,)))),
    "a huge storage": file(held=tensors(tensor(storage("7", HUGE), 0, (HUGE,), (1,)))),
    "a storage in two ways": file(
        held=pickled(ORDERED + b"(" + text("a") + PLAIN + text("b") + tensor(storage("7", 5), 0, (5,), (1,)) + b"u")
    ),
    "a storage without a tensor": file(stored=keys("7", "8")),
    "a tensor without its storage": file(stored=keys("8")),
    "keys twice": file(stored=keys("7", "7")),
    "fewer numbers": file(numbers=NUMBERS[:-1]),
    "another count": file(numbers=floats(0, 1, 2, 3, 4)),
    "more at the end": file() + b"x",
    "a memo without end": file(held=pickled(ORDERED + b"r" + struct.pack("<I", 2**31))),
    "a mark too few": file(held=pickled(b"u")),
    "nothing on the stack": file(held=pickled(b"")),
    "a name that is asked for and not called": file(held=pickled(REBUILD)),
    "a storage of another kind": file(held=tensors(tensor(storage("7", 6, "torch\nHalfStorage"), 0, (6,), (1,)))),
    "state of a tensor": file(held=tensors(PLAIN + b"}" + text("shape") + whole(9) + b"sb")),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_file_is_refused_in_one_sentence(read, name):
    with pytest.raises(ValueError, match="weights.pth can't be read as tensors of PyTorch") as error:
        read(STRANGE[name])
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_cut_off_anywhere_is_refused(read):
    content = file()
    for end in range(len(content)):
        with pytest.raises(ValueError, match="can't be read as tensors"):
            read(content[:end])
    read(content)
