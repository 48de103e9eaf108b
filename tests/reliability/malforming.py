"""How a whole artifact becomes a malformed one: cut, flipped, with a wrong value, or no file at all."""

import io
import os
import socket
import struct
import zipfile

import numpy as np

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, size=(20, 6, 5, 3), dtype="uint8"), np.arange(20) % 4
NO_ARCHIVE = {
    "empty": b"",
    "text": b"hello\n" * 20,
    "web page": b"<!DOCTYPE html><html>404</html>",
    "lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "zeros": bytes(5000),
    "beginning of zip": b"PK\x03\x04" + bytes(60),
    "end of zip": b"PK\x05\x06" + bytes(18),
}


def cuts(content, count):
    return {f"cut at {at}": content[:at] for at in sorted(RNG.choice(len(content), count, replace=False).tolist())}


def flips(content, count, low=0, high=None):
    found = {}
    for at in RNG.integers(low, high or len(content), count).tolist():
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(RNG.integers(8))
        found[f"flip at {at}"] = bytes(flipped)
    return found


def as_file(name, contents):
    """Writers of files of one name with these contents, by what is wrong with them."""
    return {wrong: lambda folder, content=content: (folder / name).write_bytes(content) for wrong, content in contents.items()}


def no_files(name):
    """A pipe, a socket and a link to a device in place of a file; a link into nothing."""

    def bound(folder):
        # Addresses of sockets are short: made elsewhere by a relative name.
        here = os.getcwd()
        os.chdir(folder)
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(name)
        finally:
            os.chdir(here)

    return {
        "pipe": lambda folder: os.mkfifo(folder / name),
        "socket": bound,
        "device": lambda folder: (folder / name).symlink_to("/dev/zero"),
        "dangling link": lambda folder: (folder / name).symlink_to("nowhere"),
    }


def npz(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def zipped(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(header, content=b"", version=(1, 0)):
    text = header.encode("latin1") if isinstance(header, str) else header
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text + content


def header(shape, descr="'|u1'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"
