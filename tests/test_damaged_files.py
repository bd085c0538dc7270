"""Damaged and hostile files of every format: one error that names the file, soon, in little memory.

A valid file of each format is damaged in many ways; it may still be readable.
"""

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

import xcnn
from xcnn import nn
from xcnn.cli.network import _read_names
from xcnn.cli.run_folder import RunFolder
from xcnn.data import ImageFolder, read_image
from xcnn.data.sources import cifar, idx
from xcnn.data.sources.files import read_bytes
from xcnn.errors import ArgumentError, DataError, FileFormatError, UnsupportedOperatorError

SECONDS = 2  # of processor time, since the machine may be busy
MEBIBYTES = 300

CONFIG = {
    **{"classes": ["a", "b"], "data": "digits", "input_shape": [1, 8, 8], "loss": "nll"},
    **{"mean": [0.5], "std": [0.25], "scale": 255, "more": {"lr": 0.1, "layers": [[1], []]}},
}


def saved(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def picture(kind):
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    return saved(lambda file: Image.fromarray(pixels).save(file, kind))


def model_file(tmp_path):
    xcnn.save(nn.Sequential(nn.Linear(5, 3), nn.ReLU()), tmp_path / "m", {"note": "{[]}"})
    return (tmp_path / "m").read_bytes()


def onnx_file(tmp_path):
    pytest.importorskip("onnx")
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU())
    xcnn.onnx.export(model, np.zeros((1, 5), np.float32), tmp_path / "m.onnx")
    return (tmp_path / "m.onnx").read_bytes()


def idx_file(*shape):
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(np.prod(shape))


def archive(batches=("data_batch_1.bin", "test_batch.bin")):
    def write(file):
        with tarfile.open(fileobj=file, mode="w") as opened:
            for name in batches:
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                member.size = 2 * 3073
                opened.addfile(member, io.BytesIO(bytes(2 * 3073)))

    return saved(write)


def read_idx(path):
    idx.counts([path] * 4)
    return idx.parse(read_bytes(path), str(path))


def read_cifar(path):
    cifar.counts([path])
    if path.name.startswith("cifar"):
        return cifar.read([path])
    return cifar.parse(read_bytes(path), str(path))


def picture_of(path):
    return read_image(path, (3, 8, 8))


def unchanged(content):
    return content


#: by format: name of the file, its content, the reader, and what packs the content afterwards
FORMATS = {
    "json": ("config.json", lambda _: json.dumps(CONFIG).encode(), None, unchanged),
    "safetensors": ("m.safetensors", model_file, xcnn.load, unchanged),
    "onnx": ("m.onnx", onnx_file, xcnn.onnx.load, unchanged),
    "classes": ("names.txt", lambda _: "cät\ndog\n".encode(), _read_names, unchanged),
    "npy": (
        "a.npy",
        lambda _: saved(lambda file: np.save(file, np.zeros((9, 11), np.uint8))),
        picture_of,
        unchanged,
    ),
    "npz": (
        "z.npy",
        lambda _: saved(lambda file: np.savez(file, a=np.zeros(3))),
        picture_of,
        unchanged,
    ),
    "idx": ("labels", lambda _: idx_file(3, 4, 5), read_idx, unchanged),
    "idx.gz": ("labels.gz", lambda _: gzip.compress(idx_file(3, 4, 5)), read_idx, unchanged),
    "idx in gz": ("labels.gz", lambda _: idx_file(3, 4, 5), read_idx, gzip.compress),
    "cifar": ("test_batch.bin", lambda _: bytes(2 * 3073), read_cifar, unchanged),
    "tar": ("cifar-10-binary.tar", lambda _: archive(), read_cifar, unchanged),
    "tar.gz": (cifar.ARCHIVE, lambda _: gzip.compress(archive()), read_cifar, unchanged),
    "tar in gz": (cifar.ARCHIVE, lambda _: archive(), read_cifar, gzip.compress),
    **{
        kind: (f"p.{kind}", lambda _, kind=kind: picture(kind), picture_of, unchanged)
        for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm")
    },
}
EXTREMES = [bytes(n) for n in (1, 4, 8)] + [b"\xff" * n for n in (1, 2, 4, 8)] + [b"\x7f\xff\xff"]


def damage(content, rng):
    """One random kind of damage, more often at the start, where the sizes are."""
    data = bytearray(content)
    limit = len(data) if rng.random() < 0.5 else min(len(data), 600)
    start = int(rng.integers(limit))
    kind = rng.integers(7)
    if kind == 0:
        return bytes(data[:start])
    if kind == 1:
        for position in rng.integers(0, limit, rng.integers(1, 9)):
            data[position] ^= 1 << rng.integers(8)
    elif kind == 2:
        extreme = EXTREMES[rng.integers(len(EXTREMES))]
        data[start : start + len(extreme)] = extreme
    elif kind == 3:
        data[start:start] = [b"[", b"(", b'{"a":', b"-", b"9"][rng.integers(5)] * 5000
    elif kind == 4:
        data[start : start + 512] = bytes(len(data[start : start + 512]))
    elif kind == 5:
        data[start:start] = data[: rng.integers(1, limit + 1)]
    else:
        digits = [i for i in range(limit) if data[i : i + 1].isdigit()]
        if digits:
            at = digits[rng.integers(len(digits))]
            data[at : at + 1] = [b"99999999999999999999", b"-1", b"1e9", b"true"][rng.integers(4)]
    return bytes(data)


def check(path, read):
    """Whether the file was read; if not, the error must be the right one."""
    start, problem = time.process_time(), None
    try:
        read(path)
    except (FileFormatError, DataError, ArgumentError, UnsupportedOperatorError) as error:
        problem = error
    assert time.process_time() - start < SECONDS
    assert problem is None or str(path) in str(problem)
    assert "\n" not in str(problem) or isinstance(problem, UnsupportedOperatorError)
    return problem is None


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::UserWarning:numpy")
@pytest.mark.parametrize("name", FORMATS)
def test_random_damage(tmp_path, name):
    filename, make, read, pack = FORMATS[name]
    read = read or (lambda path: RunFolder(path.parent).load_config())
    content, path = make(tmp_path), tmp_path / filename
    path.write_bytes(pack(content))
    assert check(path, read) or name == "npz"
    rng = np.random.default_rng(sum(map(ord, name)))
    unreadable = 0
    for _ in range(100):
        path.write_bytes(pack(damage(content, rng)))
        unreadable += not check(path, read)
    assert unreadable > 10


def tar_header(name, size=0, kind=tarfile.REGTYPE, target=""):
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, target
    return member.tobuf(tarfile.GNU_FORMAT)


def png(width, height, colour=2):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    rows = zlib.compress(bytes(10_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def npy(shape, kind="|u1"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + b"1234"


def safetensors(header):
    return struct.pack("<Q", len(header)) + header + b"1234"


def zeros(mebibytes):
    """That many zero bytes as gzip."""
    return gzip.compress(bytes(2**20)) * mebibytes


LINKS = {
    "to nowhere": [("data_batch_1.bin", "nowhere")],
    "to itself": [("data_batch_1.bin", "data_batch_1.bin")],
    "in a circle": [("data_batch_1.bin", "test_batch.bin"), ("test_batch.bin", "data_batch_1.bin")],
}
#: by description: name of the file and its content
HOSTILE = {
    "json, deep": ("config.json", b"[" * 100_000 + b"]" * 100_000),
    "json, many values": ("config.json", b'{"x":[' + b"[]," * 6_000_000 + b"0]}"),
    "json, many strings": ("config.json", b'{"x":[' + b'"",' * 5_000_000 + b"0]}"),
    "json, many keys": ("config.json", b"{" + b'"a":1,' * 2_700_000 + b'"x":0}'),
    "json, many escapes": ("config.json", b"[" + rb'"\\\\"' * 2_000_000 + b"]"),
    "json, many quotes": ("config.json", b'"' * 2**24),
    "safetensors, deep": (
        "m.safetensors",
        safetensors(b'{"a":' + b"[" * 10**5 + b"]" * 10**5 + b"}"),
    ),
    "safetensors, many values": (
        "m.safetensors",
        safetensors(b'{"a":[' + b"[]," * 6_000_000 + b"[]]}"),
    ),
    "safetensors, huge header": ("m.safetensors", struct.pack("<Q", 2**62) + b"{}"),
    "safetensors, 71 axes": (
        "m.safetensors",
        safetensors(b'{"a":{"dtype":"U8","shape":[' + b"1," * 70 + b'4],"data_offsets":[0,4]}}'),
    ),
    "safetensors, huge sizes": (
        "m.safetensors",
        safetensors(b'{"a":{"dtype":"U8","shape":[%d,0,4],"data_offsets":[0,0]}}' % 2**70),
    ),
    "safetensors, large numbers": (
        "m.safetensors",
        safetensors(
            b'{"a":{"dtype":"U8","shape":[%s1],"data_offsets":[0,4]}}' % (b"9" * 4000 + b",") * 3000
        ),
    ),
    **{
        f"npy, {shape}": ("a.npy", npy(shape))
        for shape in (
            "(10000000000000, 3)",
            "(True, 4)",
            "(0, 99999999999999999999)",
            "(-1, 4)",
            "(",
        )
    },
    "npy, nested": ("a.npy", npy("(" * 2000)),
    "npy, minus signs": ("a.npy", npy("-" * 9000 + "1")),
    "npy, objects": ("a.npy", npy("(1, 1)", "|O")),
    "npy, zip": ("a.npy", b"PK\3\4" + bytes(40)),
    "idx, 255 axes": ("labels", b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"1"),
    "idx, empty but huge": ("labels", struct.pack(">4B3I", 0, 0, 8, 3, 0, 2**32 - 1, 2**32 - 1)),
    "idx, expands": ("labels.gz", zeros(2000)),
    "cifar, expands": ("test_batch.bin", zeros(2000)),
    "tar, expands": (cifar.ARCHIVE, gzip.compress(tar_header("readme", 2**32)) + zeros(4096)),
    "tar, expands in a batch": (
        cifar.ARCHIVE,
        gzip.compress(tar_header("test_batch.bin", 2**31)) + zeros(2048),
    ),
    "tar, long name": (
        cifar.ARCHIVE,
        gzip.compress(tar_header("x", 2**31, tarfile.GNUTYPE_LONGNAME)) + zeros(2048),
    ),
    "tar, many long names": (
        cifar.ARCHIVE,
        gzip.compress(tar_header("x", 0, tarfile.GNUTYPE_LONGNAME) * 5000 + bytes(1024)),
    ),
    "tar, huge size": (cifar.ARCHIVE, gzip.compress(tar_header("test_batch.bin", 2**62))),
    "tar, negative size": (cifar.ARCHIVE, gzip.compress(tar_header("test_batch.bin", -5))),
    **{
        f"tar, {link} {where}": (
            cifar.ARCHIVE,
            gzip.compress(b"".join(tar_header(n, 0, kind, to) for n, to in links) + bytes(1024)),
        )
        for where, links in LINKS.items()
        for link, kind in (("symbolic link", tarfile.SYMTYPE), ("hard link", tarfile.LNKTYPE))
    },
    "png, expands": ("p.png", png(9400, 9400)),
    "png, transparent": ("p.png", png(9400, 9400, 6)),
    "png, largest": ("p.png", png(2**31 - 1, 2**31 - 1)),
    "classes, large": ("names.txt", b"a\n" * 10**6),
}
READERS = {
    "config.json": RunFolder.load_config,
    "labels": read_idx,
    "labels.gz": read_idx,
    "test_batch.bin": read_cifar,
    cifar.ARCHIVE: read_cifar,
    "cifar-10-binary.tar": read_cifar,
    "m.safetensors": xcnn.load,
    "names.txt": _read_names,
}


def read_hostile(path):
    read = READERS.get(path.name, picture_of)
    return read(RunFolder(path.parent) if read is RunFolder.load_config else path)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path, name):
    if name.startswith("png"):
        pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    filename, content = HOSTILE[name]
    (tmp_path / filename).write_bytes(content)
    assert not check(tmp_path / filename, read_hostile)


SPARSE = {
    "a.npy": npy((2**20, 2**13)),
    "m.safetensors": struct.pack("<Q", 2**32) + b'{"a":',
    "labels": struct.pack(">4B3I", 0, 0, 8, 3, 2**20, 2**10, 2**3),
    "config.json": b"{",
    "names.txt": b"a",
    "test_batch.bin": b"",
    "cifar-10-binary.tar": tar_header("test_batch.bin", 2**32),
}


@pytest.mark.skipif(sys.platform != "linux", reason="needs: sparse files")
@pytest.mark.parametrize("filename", SPARSE)
def test_files_as_large_as_they_say(tmp_path, filename):
    """8 GiB of zeros, which take no room on the disk."""
    with open(tmp_path / filename, "wb") as file:
        file.write(SPARSE[filename])
        file.truncate(2**33 + len(SPARSE[filename]))
    assert not check(tmp_path / filename, read_hostile)


CHILD = """
import contextlib, resource, sys
from pathlib import Path
from tests.test_damaged_files import DataError, FileFormatError, HOSTILE, read_hostile

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number, name in enumerate(HOSTILE):
    with contextlib.suppress(DataError, FileFormatError):
        read_hostile(Path(sys.argv[1], str(number), HOSTILE[name][0]))
print(before // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs: Linux, for the peak memory in kB")
def test_hostile_files_take_little_memory(tmp_path):
    for number, (filename, content) in enumerate(HOSTILE.values()):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / filename).write_bytes(content)
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    before, peak = map(int, done.stdout.split())
    assert peak - before < MEBIBYTES - 100  # importing xcnn and its packages takes up to 100


def test_hostile_pictures_in_a_folder(tmp_path):
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    (tmp_path / "a").mkdir()
    for n in range(32):
        (tmp_path / "a" / f"{n}.png").write_bytes(png(9400, 9400))
    start = time.process_time()
    with pytest.raises(DataError, match=r"a/0\.png.*like a decompression bomb"):
        ImageFolder(tmp_path).batch(np.arange(32))
    with pytest.warns(UserWarning, match="32 of 32"), pytest.raises(DataError, match="no readable"):
        ImageFolder(tmp_path, on_error="skip")
    assert time.process_time() - start < SECONDS
