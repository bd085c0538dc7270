"""The stand-in for CuPy refuses and counts what CuPy does; the facts are CuPy 14.2's sources.

What it computes is checked by the tests that use it.
"""

import inspect
import json

import numpy as np
import pytest

from tests.strict import SYNCS, count_operations, count_syncs, forbid_float64, names, nccl
from tests.strict import cupy as cp


def device(*values, dtype="float32"):
    return cp.asarray(np.array(values, dtype=dtype))


def grid(*shape, dtype="float32"):
    return cp.arange(np.prod(shape), dtype=dtype).reshape(shape)


def operations(lines):
    """The operations in a list of synchronisations, without the places."""
    return [line.split(" at ")[0] for line in lines]


# Host operands


@pytest.mark.parametrize(
    "use",
    [
        lambda x, host: x + host,
        lambda x, host: host + x,
        lambda x, host: x @ host,
        lambda x, host: x < host,
        lambda x, host: host == x,
        lambda x, host: x.__iadd__(host),
        lambda x, host: cp.exp(host),
        lambda x, host: np.add(x, host),
        lambda x, host: cp.add(x, 1, out=host),
        lambda x, host: cp.sum(host),
        lambda x, host: cp.where(x > 0, host, x),
        lambda x, host: cp.concatenate([x, host]),
        lambda x, host: np.concatenate([x, host]),
        lambda x, host: cp.copyto(x, host),
        lambda x, host: x.dot(host),
        lambda x, host: x.clip(host, None),
        lambda x, host: cp.add.at(x, 0, host),
    ],
)
def test_a_numpy_operand_is_refused(use):
    with pytest.raises(TypeError, match=r"Unsupported type|Output arguments type"):
        use(device(1, 2, 3), np.ones(3, dtype=np.float32))


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x - [1, 2, 3],
        lambda x: [1, 2, 3] * x,
        lambda x: x == [1, 2, 3],
        lambda x: cp.maximum(x, [1, 2, 3]),
        lambda x: cp.where(x > 0, [1, 2, 3], x),
        lambda x: cp.mean([1.0, 2.0]),
        lambda x: cp.zeros_like([1.0]),
        lambda x: x + None,
        lambda x: x + "1",
        lambda x: np.zeros(3) + x.sum(),
        lambda x: x + np.array(1.0),
    ],
)
def test_a_list_or_object_operand_is_refused(use):
    with pytest.raises(TypeError):
        use(device(1, 2, 3))


def test_numpy_never_gets_the_values_by_itself():
    x = device(1, 2)
    for use in (np.asarray, np.array, lambda x: np.zeros(2).__setitem__(slice(None), x)):
        with pytest.raises(TypeError, match="Implicit conversion to a NumPy array"):
            use(x)


# Dtypes


@pytest.mark.parametrize(
    ("compute", "dtype"),
    [
        (lambda x: x + 1, "float32"),
        (lambda x: x * 2.5, "float32"),
        (lambda x: 2.5 - x, "float32"),
        (lambda x: x * np.float32(2), "float32"),
        (lambda x: x * np.float64(2), "float64"),
        (lambda x: np.float64(2) * x, "float64"),
        (lambda x: x * cp.asarray(2.0), "float64"),
        (lambda x: x > 0, "bool"),
        (lambda x: (x > 0).sum(), "int64"),
        (lambda x: x.argmax(), "int64"),
        (lambda x: x.mean(), "float32"),
        (lambda x: cp.arange(3), "int64"),
        (lambda x: x / cp.arange(3), "float64"),
        (lambda x: x.astype(cp.float16) * 2, "float16"),
        (lambda x: cp.arange(3, dtype=cp.uint64) >> 3, "uint64"),
        (lambda x: cp.zeros(3), "float64"),
    ],
)
def test_dtypes_follow_numpy_2(compute, dtype):
    assert compute(device(1, 2, 3)).dtype == dtype


def test_an_unsupported_dtype_is_refused():
    with pytest.raises(ValueError, match="Unsupported dtype"):
        cp.asarray(["a", "b"])


# Names and keywords


@pytest.mark.parametrize(
    "name", ["errstate", "einsum_path", "insert", "nanpercentile", "ma", "nanquantile"]
)
def test_a_name_that_cupy_lacks(name):
    with pytest.raises(AttributeError, match="does not exist in CuPy 14"):
        getattr(cp, name)
    assert not hasattr(cp, name)


@pytest.mark.parametrize("name", ["ElementwiseKernel", "ReductionKernel", "fuse", "trapz"])
def test_a_name_that_only_cupy_has(name):
    with pytest.raises(AttributeError, match="exists, but the stand-in without a GPU does not"):
        getattr(cp, name)


@pytest.mark.parametrize("name", ["ctypes", "setflags", "resize", "__dict__", "__index__"])
def test_an_array_attribute_that_cupy_lacks(name):
    assert not hasattr(device(1), name)


def test_no_attribute_can_be_added():
    with pytest.raises(AttributeError):
        device(1).grad = 0


@pytest.mark.parametrize(
    "use",
    [
        lambda x: cp.add(x, 1, where=x > 0),
        lambda x: cp.exp(x, order="F"),
        lambda x: cp.exp(x, subok=True),
        lambda x: cp.sum(x, where=x > 0),
        lambda x: cp.sum(x, initial=1),
        lambda x: x.max(initial=0),
        lambda x: x.mean(where=x > 0),
        lambda x: cp.std(x, correction=1),
        lambda x: cp.argsort(x, stable=True),
        lambda x: cp.add.reduce(x, where=x > 0),
        lambda x: x.astype(cp.int32, casting="safe"),
        lambda x: x.item(0),
        lambda x: cp.zeros(3, like=x),
        lambda x: cp.sum(),
    ],
)
def test_a_keyword_that_cupy_lacks(use):
    with pytest.raises(TypeError):
        use(device(1, 2, 3))


def test_ufunc_methods_only_where_cupy_has_them():
    x = device(1, 2, 3)
    assert cp.add.reduce(x).item() == 6
    assert cp.multiply.accumulate(x).tolist() == [1, 2, 6]
    assert cp.subtract.outer(x, x).shape == (3, 3)
    cp.add.at(x, cp.asarray([0, 0]), 1)
    assert x.tolist() == [3, 2, 3]
    for use in (cp.maximum.reduce, cp.minimum.accumulate, cp.divide.at):
        with pytest.raises(NotImplementedError, match="is not supported yet"):
            use(x, x)


def test_a_device_scalar_is_not_a_shape():
    n = cp.asarray(3)
    for use in (cp.zeros, lambda n: grid(3).reshape(n, 1), range, lambda n: [1, 2, 3, 4][n]):
        with pytest.raises(TypeError):
            use(n)


# Results


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "argmax", "std", "prod", "any"])
def test_reductions_give_0d_arrays(name):
    for result in (getattr(device(1, 2), name)(), getattr(cp, name)(device(1, 2))):
        assert type(result) is cp.ndarray
        assert result.shape == ()


def test_answers_that_numpy_gives_as_python_objects_are_0d_arrays():
    x = device(1, 2)
    for result in (cp.array_equal(x, x), cp.allclose(x, x), cp.count_nonzero(x), x[0], cp.exp(1.0)):
        assert type(result) is cp.ndarray
        assert result.shape == ()
    assert cp.size(x) == 2
    assert type(cp.ndim(x)) is int


def test_new_results_are_c_contiguous():
    x = grid(3, 4).T
    assert x.flags.f_contiguous
    assert not x.flags.c_contiguous
    rows = cp.asarray([0, 2])
    for result in (x + 1, cp.exp(x), -x, x * x, cp.where(x > 0, x, 0), x[rows], x[:, rows]):
        assert result.flags.c_contiguous
    for result in (
        cp.concatenate([x, x]),
        x.copy(),
        x.sum(axis=0, keepdims=True),
        cp.clip(x, 0, 1),
    ):
        assert result.flags.c_contiguous
    assert x[:, rows].tolist() == [[0, 8], [1, 9], [2, 10], [3, 11]]


def test_copies_of_order_k_keep_the_memory_order():
    x = cp.transpose(grid(2, 3, 4), (2, 0, 1))
    assert x.strides == (4, 48, 16)
    for result in (cp.empty_like(x), cp.zeros_like(x), cp.copy(x), x.astype("int32"), cp.array(x)):
        assert result.strides == (4, 48, 16)
    assert cp.asarray(np.zeros((2, 3, 4)).transpose(2, 0, 1)).flags.c_contiguous  # an upload


def test_an_upload_and_a_download_copy():
    host = np.zeros(3, dtype=np.float32)
    x = cp.asarray(host)
    host[0] = 1
    back = x.get()
    back[1] = 1
    assert x.tolist() == [0, 0, 0]
    assert cp.asarray(x) is x
    assert cp.ascontiguousarray(x) is x
    assert x.astype("float32", copy=False) is x
    x.set(host)
    assert cp.asnumpy(x).tolist() == [1, 0, 0]


def test_uninitialised_memory_is_not_zero():
    assert bool(cp.isnan(cp.empty(3)).all())
    assert cp.empty_like(grid(2, dtype="int32")).tolist() == [113, 113]
    assert cp.ndarray((2, 3), dtype="float32").shape == (2, 3)


def test_assigning_from_the_host():
    x = grid(3)
    x[0] = 5
    x[1:] = np.float32(2)
    assert x.tolist() == [5, 2, 2]
    for value in (np.zeros(3), [0, 0, 0]):
        with pytest.raises(ValueError, match="cannot be used for fill"):
            x[...] = value
        with pytest.raises(ValueError, match="cannot be used for fill"):
            x.fill(value)


# Synchronisations


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda x: x.get(), ["get"]),
        (lambda x: cp.asnumpy(x), ["get"]),
        (lambda x: x.sum().item(), ["item"]),
        (lambda x: float(x[0]), ["float"]),
        (lambda x: int(x[0]), ["int"]),
        (lambda x: bool(x.any()), ["bool"]),
        (lambda x: 1 if x.max() > 1 else 0, ["bool"]),
        (lambda x: x.tolist(), ["tolist"]),
        (lambda x: f"{x.sum():.3f}", ["format"]),
        (lambda x: repr(x), ["repr"]),
        (lambda x: x[x > 1], ["boolean mask index"]),
        (lambda x: x.__setitem__(x > 1, 0), ["boolean mask index"]),
        (lambda x: x.nonzero(), ["nonzero"]),
        (lambda x: cp.argwhere(x), ["argwhere"]),
        (lambda x: cp.where(x > 1), ["where"]),
        (lambda x: cp.unique(x), ["unique"]),
        (lambda x: cp.repeat(x, cp.asarray([1, 2, 0])), ["repeat"]),
        (lambda x: cp.array_equal(x, x, equal_nan=True), ["array_equal"]),
        (lambda x: x[[0, 1]], ["host index array"]),
        (lambda x: x[np.array([0, 1])], ["host index array"]),
        (lambda x: cp.cuda.get_current_stream().synchronize(), ["Stream.synchronize"]),
        (lambda x: cp.cuda.Stream.null.synchronize(), ["Stream.synchronize"]),
        (lambda x: cp.cuda.Event().synchronize(), ["Event.synchronize"]),
        (lambda x: cp.cuda.Device(0).synchronize(), ["Device.synchronize"]),
        (lambda x: cp.cuda.runtime.deviceSynchronize(), ["deviceSynchronize"]),
        (lambda x: cp.where(x > 1, x, 0), []),
        (lambda x: cp.repeat(x, 2), []),
        (lambda x: cp.array_equal(x, x), []),
        (lambda x: x[cp.argmax(x)], []),
        (lambda x: x[cp.asarray([0, 1])], []),
        (lambda x: (len(x), x.shape, x.dtype, x.nbytes, x[1:], list(x)), []),
        (lambda x: cp.asarray(np.ones(3)), []),
        (lambda x: x.set(np.ones(3, "float32"), stream=cp.cuda.Stream()), []),
        (lambda x: cp.cuda.Stream().wait_event(cp.cuda.get_current_stream().record()), []),
        (lambda x: cp.from_dlpack(x), []),
    ],
)
def test_what_synchronises(use, expected):
    x = device(1, 2, 3)
    with count_syncs() as syncs:
        use(x)
    assert operations(syncs) == expected


def test_counts_nest_and_say_where():
    x = device(1)
    with count_syncs() as outer:
        x.get()
        with count_syncs() as inner:
            x.item()
        x.get()
    assert operations(outer) == ["get", "item", "get"]
    assert operations(inner) == ["item"]
    assert SYNCS[-3:] == outer
    assert "at test_strict.py:" in inner[0]


# float64


@pytest.mark.parametrize(
    ("use", "operation"),
    [
        (lambda x: x * np.float64(2), "multiply"),
        (lambda x: cp.zeros(3), "zeros"),
        (lambda x: cp.asarray(np.ones(3)), "array"),
        (lambda x: x / cp.arange(3), "divide"),
        (lambda x: cp.arange(3).mean(), "mean"),
        (lambda x: x.astype(float), "astype"),
        (lambda x: cp.fft.fft(x.astype(complex)), "astype"),
        (lambda x: cp.random.rand(3), "random.rand"),
        (lambda x: cp.full(3, 0.5), "full"),
    ],
)
def test_forbidden_float64_names_the_operation(use, operation):
    x = device(1, 2, 3)
    use(x)
    with (
        forbid_float64(),
        pytest.raises(AssertionError, match=f"{operation} made a (float64|complex128) array"),
    ):
        use(x)


def test_float32_stays_allowed():
    with forbid_float64():
        x = device(1, 2, 3)
        assert ((x * 2.0 + 1).mean() / 3).dtype == "float32"
    assert cp.zeros(3).dtype == "float64"


# The rest of an array's life


def wait_for_event(stream):
    stream.wait_event(cp.cuda.get_current_stream().record())


def wait_for_host(stream):
    cp.cuda.get_current_stream().record().synchronize()


ORDERS = [
    wait_for_event,
    wait_for_host,
    lambda stream: cp.cuda.Stream.null.synchronize(),
    lambda stream: cp.cuda.Device().synchronize(),
    lambda stream: cp.cuda.runtime.deviceSynchronize(),
]


@pytest.mark.parametrize("order", ORDERS)
def test_memory_changes_streams_only_in_order(order):
    stream, host = cp.cuda.Stream(non_blocking=True), np.ones(3, "float32")
    order(stream)  # too early: the array does not exist yet
    x = cp.empty(3, "float32")
    view = x[:2]
    with pytest.raises(
        AssertionError, match=r"data race: <Stream \d+ .*> uses memory of <Stream 0"
    ):
        x.set(host, stream)
    order(stream)
    view.set(host[:2], stream)
    with pytest.raises(AssertionError, match="data race: <Stream 0"):
        x + 1
    with stream:
        y = x + 1
        order(cp.cuda.Stream.null)
    stream.synchronize()
    x += y


def test_an_event_orders_what_is_before_it_only():
    stream, x = cp.cuda.Stream(non_blocking=True), cp.ones(3, "float32")
    event = cp.cuda.get_current_stream().record()
    x += 1
    stream.wait_event(event)
    with stream, pytest.raises(AssertionError, match="data race"):
        x.sum()


def test_events_order_streams_that_wait_for_each_other():
    first, second = (cp.cuda.Stream(non_blocking=True) for _ in range(2))
    x = cp.ones(3, "float32")
    first.wait_event(cp.cuda.get_current_stream().record())
    second.wait_event(first.record())
    with second:
        assert x.sum() == 3


def test_blocking_streams_are_ordered_with_the_null_stream():
    one, two, x = cp.cuda.Stream(), cp.cuda.Stream(), cp.ones(3, "float32")
    with one:
        x += 1
    x += 1
    with two:
        x += 1
    with one, pytest.raises(AssertionError, match="data race"):
        x += 1


@pytest.mark.parametrize(
    ("make", "host", "error"),
    [
        (lambda x: x, [1, 2], TypeError),
        (lambda x: x, np.ones((2, 3)), TypeError),
        (lambda x: x, np.ones((3, 2), "float32"), ValueError),
        (lambda x: x[:, ::2], np.ones((2, 2), "float32"), RuntimeError),
    ],
)
def test_what_cannot_be_set(make, host, error):
    with pytest.raises(error):
        make(grid(2, 3)).set(host)


def test_a_new_array_over_the_pools_limit():
    x, pool = grid(4, 64), cp.get_default_memory_pool()
    pool.set_limit(size=1000)
    try:
        x[1:].reshape(-1)[...] = 1  # views
        cp.add(x, 1, out=x)
        assert cp.zeros(250, "float32").nbytes == 1000
        for make in (
            lambda: cp.zeros(251, "float32"),
            lambda: x + 1,
            lambda: x.copy(),
            lambda: cp.ndarray((1001,), "int8"),
            lambda: cp.asarray(np.ones(126)),
        ):
            with pytest.raises(cp.cuda.memory.OutOfMemoryError, match=r"limit set to: 1,000 bytes"):
                make()
    finally:
        pool.set_limit(size=0)
    assert (x + 1).shape == x.shape
    pool.set_limit(fraction=0.5)
    assert 2 * pool.get_limit() == cp.cuda.runtime.memGetInfo()[1]
    pool.set_limit()
    assert pool.get_limit() == 0
    error = cp.cuda.memory.OutOfMemoryError(2000, 500)
    assert str(error) == "Out of memory allocating 2,000 bytes (allocated so far: 500 bytes)."
    assert isinstance(error, MemoryError)


def test_dlpack_shares_memory():
    x = grid(2, 3)
    assert x.__dlpack_device__() == (2, 0)
    y = cp.from_dlpack(x.T)
    y[0, 1] = 9
    assert x.tolist() == [[0, 1, 2], [9, 4, 5]]
    assert cp.from_dlpack(x, copy=True).data.ptr != x.data.ptr
    capsule = x.__dlpack__()
    capsule.take()
    with pytest.raises(ValueError, match="multiple times"):
        capsule.take()
    with pytest.raises(TypeError, match="CPU arrays cannot be directly imported"):
        cp.from_dlpack(np.ones(3))


# The list of names


def test_the_list_agrees_with_an_installed_cupy(tmp_path):
    real = pytest.importorskip("cupy")
    if real.__version__ != names.load()["cupy"] or np.__version__ != names.load()["numpy"]:
        pytest.skip("the list was written from other versions")
    names.write(tmp_path / "names.json")
    assert json.loads((tmp_path / "names.json").read_text()) == names.load()


def test_the_stand_in_offers_nothing_that_cupy_lacks():
    listed = names.load()
    for module, stand_in in (("", cp), ("cuda", cp.cuda)):
        real = {name for kind in listed["modules"][module].values() for name in kind}
        # What a module of the stand-in holds for itself
        own = {"lib", "np", "sys", "types", "names", "finish", "unwrap", "record_sync"}
        own |= {"Namespace", "RandomNamespace", "CUDARuntimeError"}
        offered = {name for name in vars(stand_in) if not name.startswith("_")} - own
        assert offered <= real | {"ndarray", "cublas"}  # the latter is imported on first use
    calls = listed["classes"][names.COMMUNICATOR]["methods"]
    for name in ("abort", "allReduce", "broadcast", "check_async_error", "destroy"):
        parameters = inspect.signature(getattr(nccl.NcclCommunicator, name)).parameters
        assert ", ".join(parameters) == ", ".join(filter(None, ["self", calls[name]]))
    constants = {name for name in vars(nccl) if name.startswith("NCCL_")}
    assert constants <= set(listed["modules"]["cuda.nccl"]["other"])
    members = listed["classes"]["ndarray"]
    offered = {name for name in vars(cp.ndarray) if not name.startswith("_")}
    assert offered <= {*members["methods"], *members["attributes"]}


# -- operations of the device --------------------------------------------------------------

STACK = cp.ones((3, 4, 5), dtype="float32")
MATRIX = STACK[0]
OPERATIONS = [
    (lambda: MATRIX.T.reshape(5, 2, 2)[1:, None], {}),  # views
    (lambda: cp.empty(3) is cp.empty_like(MATRIX), {}),
    (lambda: MATRIX.astype("float32", copy=False), {}),
    (lambda: MATRIX.astype("float16"), {"astype": 1}),
    (lambda: cp.ascontiguousarray(MATRIX.T), {"array": 1}),
    (lambda: cp.asarray(np.ones(3)), {"to device": 1}),
    (lambda: MATRIX.get(), {"to host": 1}),
    (lambda: (MATRIX + 1).sum(axis=0), {"add": 1, "sum": 1}),
    (lambda: MATRIX.var(axis=0), {"var": 2}),
    (lambda: MATRIX.__setitem__(0, 1), {"setitem": 1}),
    (lambda: cp.zeros(0) + 1, {}),
    (lambda: cp.add(MATRIX[:, 1:], 1, out=cp.empty((4, 4), "float32")), {"add": 1}),
    (lambda: cp.add(MATRIX[:, 1:], 1, out=MATRIX[:, :-1]), {"add": 2}),  # they overlap
    (lambda: MATRIX @ MATRIX.T, {"matmul": 1}),
    (lambda: MATRIX[:, 1:] @ MATRIX[:, 1:].T, {"matmul": 3}),  # slices are copied
    (lambda: cp.matmul(MATRIX, MATRIX.T, out=cp.empty((4, 8), "float32")[:, :4]), {"matmul": 2}),
    (lambda: STACK @ STACK.swapaxes(1, 2), {"matmul": 2}),  # a transposed stack is copied
    (lambda: STACK @ cp.ones((5, 2), "float32"), {"ones": 1, "matmul": 4}),  # 3 tables of addresses
    (
        lambda: STACK.astype("float16") @ STACK.astype("float16").reshape(3, 5, 4),
        {"astype": 2, "matmul": 4},
    ),
    (lambda: cp.stack([MATRIX, MATRIX]), {"stack": 2}),
]


@pytest.mark.parametrize(("call", "expected"), OPERATIONS)
def test_operations_are_counted(call, expected):
    with count_operations() as operations:
        call()
    assert dict(operations) == expected
