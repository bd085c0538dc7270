"""Files of ``torch.save``, written by hand and by PyTorch; hostile ones are never run."""

import collections
import io
import os
import pickle
import struct
import time
import zipfile

import numpy as np
import pytest

import xcnn
from xcnn import nn
from xcnn.errors import FileFormatError, StateDictError

from .conftest import normal

# -- files written by hand, opcode by opcode -----------------------------------------------


def literal(value):
    """A number, a string, None or a tuple of them, as opcodes."""
    if isinstance(value, tuple):
        return b"(" + b"".join(map(literal, value)) + b"t"
    if isinstance(value, str):
        text = value.encode()
        return b"X" + struct.pack("<I", len(text)) + text
    return pickle.dumps(value, 2)[2:-1]


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def storage(key, size, kind="FloatStorage", device="cpu"):
    parts = literal("storage"), name("torch", kind), literal(key), literal(device), literal(size)
    return b"(" + b"".join(parts) + b"tQ"


def tensor(source, offset, shape, strides):
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    hooks = name("collections", "OrderedDict") + b")R"
    parts = literal(offset), literal(shape), literal(strides), literal(False), hooks
    return rebuild + b"(" + source + b"".join(parts) + b"tR"


def dictionary(**items):
    pairs = b"".join(literal(key) + value for key, value in items.items())
    return name("collections", "OrderedDict") + b")R(" + pairs + b"u"


def archive(program, storages=None, compression=zipfile.ZIP_STORED, **more):
    """The bytes of a file: ``program`` without its first and last opcode."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("model/data.pkl", b"\x80\x02" + program + b".")
        for key, array in (storages or {}).items():
            file.writestr(f"model/data/{key}", np.asarray(array).tobytes())
        for entry, content in more.items():
            file.writestr(f"model/{entry}", content)
    return buffer.getvalue()


VALUES = np.arange(12, dtype="<f4")
WEIGHT = tensor(storage("0", 12), 0, (3, 4), (4, 1))
GOOD = archive(dictionary(weight=WEIGHT), {"0": VALUES})


@pytest.fixture
def read(tmp_path):
    def load(content):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return xcnn.load_state(path)

    return load


def test_tensors(read):
    storages = {"0": VALUES, "1": np.array([1.5, -2], "<f2"), "2": np.array([True, False])}
    storages |= {"3": np.array([7], "<i8"), "4": np.array([0x3FC0, 0xC000], "<u2"), "5": VALUES[:0]}
    found = read(
        archive(
            dictionary(
                whole=WEIGHT,
                transposed=tensor(storage("0", 12), 0, (4, 3), (1, 4)),
                part=tensor(storage("0", 12), 5, (2, 2), (4, 2)),
                half=tensor(storage("1", 2, "HalfStorage"), 0, (2,), (1,)),
                flags=tensor(storage("2", 2, "BoolStorage"), 0, (2,), (1,)),
                count=tensor(storage("3", 1, "LongStorage"), 0, (), ()),
                brain=tensor(storage("4", 2, "BFloat16Storage"), 0, (2,), (1,)),
                empty=tensor(storage("5", 0), 0, (0, 3), (3, 1)),
                elsewhere=tensor(storage("0", 12, device="cuda:3"), 11, (1,), (1,)),
            ),
            storages,
        )
    )
    expected = {
        "whole": VALUES.reshape(3, 4),
        "transposed": VALUES.reshape(3, 4).T,
        "part": np.array([[5, 7], [9, 11]], "f4"),
        "half": np.array([1.5, -2], "f2"),
        "flags": np.array([True, False]),
        "count": np.array(7),
        "brain": np.array([1.5, -2], "f4"),
        "empty": np.zeros((0, 3), "f4"),
        "elsewhere": VALUES[11:],
    }
    assert list(found) == list(expected)
    for key, array in expected.items():
        assert found[key].dtype == array.dtype, key
        np.testing.assert_array_equal(found[key], array, strict=True)
        assert found[key].flags.writeable


def test_byte_order(read):
    big = archive(dictionary(weight=WEIGHT), {"0": VALUES.astype(">f4")}, byteorder=b"big")
    np.testing.assert_array_equal(read(big)["weight"], VALUES.reshape(3, 4))
    little = archive(dictionary(weight=WEIGHT), {"0": VALUES}, byteorder=b"little")
    np.testing.assert_array_equal(read(little)["weight"], VALUES.reshape(3, 4))


def test_state_inside_a_checkpoint(read):
    inner = dictionary(weight=WEIGHT)
    optimizer = dictionary(step=literal(3), rates=b"](" + literal(0.1) + literal(0.2) + b"e")
    program = dictionary(epoch=literal(3), model=inner, optimizer=optimizer, best=literal(None))
    assert list(read(archive(program, {"0": VALUES}))) == ["weight"]
    two = dictionary(model=inner, average=inner)
    with pytest.raises(FileFormatError, match="the keys model, average, 2 of which are state"):
        read(archive(two, {"0": VALUES}))
    with pytest.raises(FileFormatError, match="the keys epoch, none of which are state dicts"):
        read(archive(dictionary(epoch=literal(3)), {}))
    with pytest.raises(FileFormatError, match="it holds list, expected a dict"):
        read(archive(b"]"))


def test_into_a_model(tmp_path):
    path = tmp_path / "weights.pth"
    bias = tensor(storage("1", 3), 0, (3,), (1,))
    path.write_bytes(archive(dictionary(weight=WEIGHT, bias=bias), {"0": VALUES, "1": VALUES[:3]}))
    model = nn.Linear(4, 3)
    assert xcnn.load(path, model) is model
    np.testing.assert_array_equal(model.weight.data, VALUES.reshape(3, 4))
    with pytest.raises(FileFormatError, match="weights but no architecture; build the model"):
        xcnn.load(path)
    with pytest.raises(StateDictError, match="bias is"):
        xcnn.load(path, nn.Linear(4, 2))


class Attack:
    """What pickle writes for this calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attack(function, *arguments):
    return pickle.dumps(Attack(function, *arguments), 2)[2:-1]


def test_nothing_is_run(read, tmp_path):
    marker = tmp_path / "was-here"
    calls = {
        r"(posix|nt)\.system": attack(os.system, f"touch {marker}"),
        r"(_?io|builtins|__builtin__)\.open": attack(open, str(marker), "w"),
        r"(builtins|__builtin__)\.eval": attack(eval, f"open({str(marker)!r}, 'w')"),
    }
    for found, call in calls.items():
        for program in (call, dictionary(weight=call), dictionary(weight=WEIGHT, other=call)):
            with pytest.raises(FileFormatError, match=f"it contains {found}: only dicts.*nothing"):
                read(archive(program, {"0": VALUES}))
    with pytest.raises(FileFormatError, match=r"it contains os\.system"):  # of protocol 4
        read(archive(b"\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R"))
    assert not marker.exists()


def nested(depth):
    """A tuple of a tuple of a ..., each with two references to the next."""
    return literal("x") + b"q\x00" + b"".join(b"h\x00\x86q\x00" for _ in range(depth))


REFUSED = {
    "a module": (name("torch.nn.modules.linear", "Linear") + b")\x81", "torch.nn.modules.linear"),
    "an opcode": (b"K\x01\x88\x82\x05", "the pickle opcode EXT1"),
    "bytes": (dictionary(weight=b"B\x01\x00\x00\x00a"), "the pickle opcode BINBYTES"),
    "attributes": (b"]}b", "an object with attributes"),
    "a call of a tensor": (WEIGHT + b")R", "a call of _Tensor"),
    "a call of a storage": (name("torch", "FloatStorage") + literal((10**12,)) + b"R", "a call of"),
    "complex": (storage("0", 12, "ComplexFloatStorage"), "torch.ComplexFloatStorage"),
    "another persistent object": (literal(("module", 1, 2, 3, 4)) + b"Q", "is not a storage"),
    "a tuple as key": (b"}" + nested(60) + b"Ns", "a dict with keys other than strings"),
    "append to a dict": (b"}Na", "something other than a list"),
    "items of a list": (b"]NNs", "something other than a dict"),
    "no dict": (b"]", "it holds list"),
    "repeated elements": (tensor(storage("0", 12), 0, (10**9,), (0,)), "repeats its elements"),
    "terminal escapes": (name("\x1b[31mos", "system"), r"it contains \?\[31mos\.system"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, read):
    program, text = REFUSED[case]
    with pytest.raises(FileFormatError, match=text):
        read(archive(program, {"0": VALUES}))


def one(offset, shape, strides, size=12):
    return dictionary(weight=tensor(storage("0", size), offset, shape, strides))


DAMAGED = {
    "too large": one(0, (10**6, 10**6), (10**6, 1)),
    "beyond the end": one(9, (2, 2), (2, 1)),
    "negative stride": one(11, (12,), (-1,)),
    "negative offset": one(-4, (4,), (1,)),
    "negative size": one(0, (-1,), (1,)),
    "huge numbers": one(2**2000, (2**2000,), (2**2000,)),
    "too many axes": one(0, (1,) * 65, (1,) * 65),
    "missing strides": one(0, (3, 4), (1,)),
    "fractions": one(0, (1.5,), (1,)),
    "another size of the storage": one(0, (3,), (1,), size=13),
    "a huge storage": one(0, (10**15,), (1,), size=10**15),
    "a name for the shape": dictionary(weight=tensor(storage("0", 12), 0, "ab", "cd")),
    "another storage": dictionary(weight=tensor(storage("../data", 12), 0, (3,), (1,))),
    "no end": b"(" * 50,
    "an empty stack": b"tttt",
    "a missing memo": b"h\x07",
    "a far memo": b"Nr\xff\xff\xff\x7fj\xff\xff\xff\x7e",
    "too short a persistent id": literal(("storage",)) + b"Q",
    "too many opcodes": b"N" * 2**21,
    "an empty program": b"",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged(case, read):
    start = time.perf_counter()
    with pytest.raises(FileFormatError, match=r"weights\.pth"):
        read(archive(DAMAGED[case], {"0": VALUES}))
    assert time.perf_counter() - start < 20


def test_many_overlapping_tensors(read):
    """Each is allowed, but together they are larger than the file."""
    size = 10_000
    views = {f"w{i}": tensor(storage("0", size), i, (size - i,), (1,)) for i in range(300)}
    with pytest.raises(FileFormatError, match=r"tensors of \d+ bytes in a file of \d+"):
        read(archive(dictionary(**views), {"0": np.zeros(size, "f4")}))
    same = {f"w{i}": tensor(storage("0", size), 0, (size,), (1,)) for i in range(300)}
    assert len(read(archive(dictionary(**same), {"0": np.zeros(size, "f4")}))) == 300  # tied


def test_compressed_archives(read):
    """They may be bombs."""
    for program, storages in ((b"]" * 10**6, {}), (one(0, (4,), (1,)), {"0": np.zeros(10**6)})):
        with pytest.raises(FileFormatError, match="is compressed, which torch"):
            read(archive(program, storages, zipfile.ZIP_DEFLATED))


def test_other_archives(read):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("../../../etc/passwd", "root")
        file.writestr("/weights.npy", b"")
    with pytest.raises(FileFormatError, match="a zip archive, but not one of"):
        read(buffer.getvalue())
    with pytest.raises(FileFormatError, match="TorchScript program"):
        read(archive(dictionary(weight=WEIGHT), {"0": VALUES}, **{"constants.pkl": b""}))


def test_truncated_or_changed(read):
    expected = read(GOOD)["weight"]
    for length in range(4, len(GOOD), 5):
        with pytest.raises(FileFormatError):
            read(GOOD[:length])
    for place in range(4, len(GOOD), 3):
        changed = bytearray(GOOD)
        changed[place] ^= 0x15
        try:
            found = read(bytes(changed))
        except FileFormatError:
            continue
        np.testing.assert_array_equal(found["weight"], expected)  # a byte of no meaning


def test_legacy_format(read):
    """Five pickles, then each storage after the number of its elements."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    for order in "<>":
        system = {"protocol_version": 1001, "little_endian": order == "<", "type_sizes": {}}
        source = storage("a", 12)[:-2] + b"NtQ"  # and no view of it
        program = b"\x80\x02" + dictionary(weight=tensor(source, 0, (3, 4), (4, 1))) + b"."
        start = magic + pickle.dumps(system, 2) + program + pickle.dumps(["a"], 2)
        content = start + struct.pack("<q", 12) + VALUES.astype(f"{order}f4").tobytes()
        np.testing.assert_array_equal(read(content)["weight"], VALUES.reshape(3, 4))
    for length in range(15, len(content), 7):
        with pytest.raises(FileFormatError):
            read(content[:length])
    unknown = magic + pickle.dumps(system, 2) + program + pickle.dumps(["b"], 2)
    with pytest.raises(FileFormatError):
        read(unknown)


# -- files written by PyTorch --------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("is_zip", [True, False])
def test_against_pytorch(is_zip, protocol, tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.tensor(normal(4, 6, dtype="float32"))
    shared = torch.arange(10.0)
    state = collections.OrderedDict(
        transposed=base.t(),
        part=base[1:, 2:5],
        scalar=torch.tensor(3),
        empty=torch.empty(0, 3),
        parameter=torch.nn.Parameter(base[0]),
        first=shared[2:5],
        second=shared,
        flags=torch.tensor([True, False]),
    )
    for kind in ("float16", "bfloat16", "float64", "int8", "int16", "int32", "uint8"):
        state[kind] = (10 * base[:2]).abs().to(getattr(torch, kind))
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    path = tmp_path / "state.pt"
    settings = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": is_zip}
    torch.save(state, path, **settings)
    found = xcnn.load_state(path)
    assert list(found) == list(state)
    for key, value in state.items():
        value = value.detach()
        expected = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        np.testing.assert_array_equal(found[key], expected, strict=True)
    torch.save(torch.nn.Linear(2, 3), path, **settings)
    with pytest.raises(FileFormatError, match=r"it contains torch.nn.modules.linear.Linear"):
        xcnn.load_state(path)


@pytest.mark.parametrize("is_zip", [True, False])
def test_checkpoint_of_pytorch(is_zip, tmp_path):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.Adam(theirs.parameters())
    theirs(torch.ones(1, 1, 5, 5)).sum().backward()
    optimizer.step()
    content = {"epoch": 3, "model": theirs.state_dict(), "optimizer": optimizer.state_dict()}
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    ours = xcnn.load(path, nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
    x = normal(2, 1, 6, 7, dtype="float32")
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x)).numpy()
    np.testing.assert_allclose(ours(x).data, expected, rtol=1e-5, atol=1e-6)
