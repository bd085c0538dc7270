"""The CUDA backend around its kernels: copies, memory, devices, diagnosis."""

import importlib.metadata
import re
import time

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import backends, models, nn, optim
from xcnn.backends import diagnosis, kernels
from xcnn.backends.kernels import Variant
from xcnn.backends.launch import announce_if_slow
from xcnn.backends.transfer import Slot
from xcnn.data import DataLoader
from xcnn.errors import ArgumentError, DeviceError, DTypeError, OutOfMemoryError
from xcnn.training.prefetch import on_device

from .conftest import normal
from .strict import count_operations, count_syncs
from .strict import cupy as strict_cupy

# -- copies of batches --------------------------------------------------------------------


def batches(count, size=5, dtype="float32"):
    return [
        (normal(size, 2, 3, seed=i, dtype=dtype), np.arange(size) + i, np.float32(i))
        for i in range(count)
    ]


def uploaded(batches, backend):
    return on_device(batches, backend, "float32", backend.slots())


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_batches_arrive_in_order(strict, count):
    backend, sent = strict, batches(count)
    seen = []
    with backend.active():
        for host, (x, y, number) in uploaded(sent, backend):
            assert host[0] is sent[len(seen)][0]
            seen.append((backend.to_host(x).copy(), backend.to_host(y).copy(), number))
    assert len(seen) == count
    for (x, y, number), (x_sent, y_sent, n_sent) in zip(seen, sent, strict=True):
        np.testing.assert_array_equal(x, x_sent)
        np.testing.assert_array_equal(y, y_sent)
        assert (x.dtype, y.dtype, number) == (np.float32, np.int64, n_sent)


def test_floating_point_arrays_are_converted(strict):
    sent = batches(3, dtype="float64")
    for host, (x, y, _) in uploaded(sent, strict):
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(x.get(), host[0].astype(np.float32))


def test_two_slots_are_used_in_turn(strict):
    addresses = [x.data.ptr for _, (x, _, _) in uploaded(batches(6), strict)]
    assert len(set(addresses)) == 2
    assert addresses[:2] * 3 == addresses


def test_a_slot_grows_with_the_batch(strict):
    sent = [*batches(3, size=2), *batches(3, size=9), *batches(2, size=0)]
    for host, (x, _, _) in uploaded(sent, strict):
        np.testing.assert_array_equal(x.get(), host[0])


def test_strided_arrays(strict):
    x = normal(4, 6, 8, dtype="float32")
    for view in (x[::2], x[:, ::-1], x.T, np.broadcast_to(x[:1], x.shape)):
        [(_, (copied,))] = [(h, (d[0].copy(),)) for h, d in uploaded([(view,)], strict)]
        np.testing.assert_array_equal(copied.get(), view)


def test_a_slot_waits_for_the_step_that_reads_it(strict, monkeypatch):
    """A slot is filled again only after the step that reads it was queued."""
    log = []
    for name in ("fill", "take", "release"):
        real = getattr(Slot, name)

        def noted(slot, *arguments, name=name, real=real):
            log.append((name, id(slot)))
            return real(slot, *arguments)

        monkeypatch.setattr(Slot, name, noted)
    for _ in uploaded(batches(6), strict):
        pass
    for slot in {slot for _, slot in log}:
        own = [name for name, other in log if other == slot]
        assert own == ["fill", "take", "release"] * 3


@pytest.mark.parametrize("without", ["take", "release", "wait_event", "record"])
def test_the_stand_in_sees_a_race_of_copies_and_steps(strict, monkeypatch, without):
    """Leaving out any part of the order between the two streams is an error."""
    if without in ("take", "release"):
        monkeypatch.setattr(Slot, without, lambda slot: slot._arrays)
    elif without == "wait_event":
        monkeypatch.setattr(strict_cupy.cuda.Stream, "wait_event", lambda stream, event: None)
    else:  # memory that queued kernels may still read
        event = strict_cupy.cuda.Event()
        monkeypatch.setattr(strict_cupy.cuda.Stream, "record", lambda stream: event)
    with pytest.raises(AssertionError, match="data race"):
        [x.sum() for _, (x, _, _) in uploaded(batches(4), strict)]


def test_memory_is_freed_after_the_last_copy(strict):
    """Here the copy of the second batch, which no step has waited for."""
    copied = uploaded(batches(3), strict)
    next(copied)
    with count_syncs() as syncs:
        copied.close()
    waits = ["Event.synchronize at transfer.py" in line for line in syncs]
    assert waits.count(True) >= 2  # slots


def test_an_error_in_a_step_drains_the_slots(strict, monkeypatch):
    """At once, while the traceback still holds the frames, and not in the garbage collector."""
    drained = []
    monkeypatch.setattr(Slot, "drain", lambda slot: drained.append(slot))
    trainer = xcnn.Trainer(nn.Linear(2, 2).to(strict), "sgd")
    x, y = np.ones((8, 2), "float32"), np.full(8, 9)
    with pytest.raises(ArgumentError, match="class 9") as failure:
        trainer.fit(x, y, batch_size=2)
    assert failure.traceback
    assert len(drained) == 2


def test_an_error_while_reading_reaches_the_step(strict):
    def failing():
        yield from batches(2)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(uploaded(failing(), strict))


def test_leaving_early_stops_the_thread(strict):
    loader = DataLoader((normal(100, 2, dtype="float32"), np.arange(100)), batch_size=2)
    for _ in uploaded(loader, strict):
        break
    assert sum(1 for _ in uploaded(loader, strict)) == 50  # another can start


# -- memory --------------------------------------------------------------------------------


@pytest.fixture
def limited(strict):
    budget = strict.column_budget
    yield strict
    strict._pool.set_limit(size=0)
    strict.column_budget = budget


def test_the_limit_caps_the_pool_and_the_columns(limited):
    limited.limit_memory(8 * 2**20)
    assert limited._pool.get_limit() == 8 * 2**20
    assert limited.column_budget == 2**20
    limited.limit_memory(16 * 2**30)
    assert limited.column_budget == 2**20  # a limit never raises it


@pytest.mark.parametrize("size", [0, -1, 17 * 2**30])
def test_limits_that_make_no_sense(limited, size):
    with pytest.raises(ArgumentError, match=r"memory limit .*: strict has 16.00 GiB"):
        limited.limit_memory(size)


def test_the_cpu_has_no_limit():
    with pytest.raises(ArgumentError, match="applies to GPU memory, cpu has none"):
        backends.get("cpu").limit_memory(2**30)


def test_out_of_memory_tells_what_holds_it_and_what_helps(limited, monkeypatch):
    monkeypatch.setattr(limited, "_largest", (0, ""))
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 64, 3)).to(limited)
    x = limited.asarray(normal(8, 1, 32, 32, dtype="float32"))
    limited.limit_memory(2**20)
    with pytest.raises(OutOfMemoryError) as caught:
        model(x)
    text = str(caught.value)
    assert isinstance(caught.value, MemoryError)
    assert "layer '2' (Conv2d(4, 64, 3)): strict is out of memory: Out of memory alloc" in text
    assert "the memory limit is 1.0 MiB" in text
    assert "the output of Conv2d, float32 (8, 4, 30, 30), takes 0.1 MiB" in text
    assert "im2col takes up to 0.1 MiB" in text
    assert "--batch-size" in text
    assert "--memory-limit" in text


def test_out_of_memory_in_backward_and_of_an_upload(limited):
    x = xcnn.Tensor(limited.asarray(normal(64, 64, dtype="float32")), requires_grad=True)
    y = F.sum(F.tanh(x))
    limited.limit_memory(2**12)
    with pytest.raises(OutOfMemoryError, match="is out of memory"):
        y.backward()
    with pytest.raises(OutOfMemoryError, match="is out of memory"):
        limited.asarray(np.zeros(2**12))


# -- devices -------------------------------------------------------------------------------


def test_mixed_devices_name_the_layer_the_parameter_and_the_call(strict):
    model = models.lenet5()
    model.conv2.to(strict)
    with pytest.raises(DeviceError) as caught:
        model(normal(2, 1, 28, 28, dtype="float32"))
    text = str(caught.value)
    assert "layer 'conv2' (Conv2d(6, 16, 5))" in text
    assert "input is on cpu, weight on strict" in text
    assert 'move input with Tensor(input).to("strict"), or weight and the module' in text
    assert '.to("cpu")' in text


def test_a_tensor_moves(strict):
    x = xcnn.Tensor(normal(2, 3), requires_grad=True)
    there = x.to(strict)
    assert (there.device, there.requires_grad, there.dtype) == ("strict", True, x.dtype)
    assert there.to("strict") is there
    assert x.to("cpu") is x
    np.testing.assert_array_equal(there.to("cpu").data, x.data)
    parameter = xcnn.Parameter(np.ones(2)).to(strict)
    assert type(parameter) is xcnn.Parameter


def test_arrays_of_the_device_are_used_in_place(strict):
    array = strict_cupy.ones((2, 3), dtype="float32")
    tensor = xcnn.Tensor(array)
    assert tensor.data is array
    assert tensor.device == "strict"


class Foreign:
    """An array of another library on a GPU."""

    def __init__(self, array, device=(2, 0)):
        self.array = array
        self.device = device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **settings):
        return self.array.__dlpack__(**settings)


def test_a_gpu_array_of_another_library_shares_its_memory(strict, monkeypatch):
    monkeypatch.setitem(backends._by_name, "cuda:0", strict)
    array = strict_cupy.asarray(normal(2, 3, dtype="float32"))
    tensor = xcnn.Tensor(Foreign(array))
    assert tensor.data.data.ptr == array.data.ptr
    assert F.relu(Foreign(array)).device == "strict"


def test_a_device_of_another_kind_is_refused():
    with pytest.raises(DTypeError, match="Foreign is on a device of DLPack type 10"):
        xcnn.Tensor(Foreign(None, (10, 0)))


# -- precision -----------------------------------------------------------------------------


def test_tf32_holds_for_the_block_only(strict):
    core = strict_cupy._core
    before = core.get_compute_type(np.float32)
    with strict.precision("tf32"):
        assert core.get_compute_type(np.float32) == core._routines_linalg.COMPUTE_TYPE_TF32
    assert core.get_compute_type(np.float32) == before
    with strict.precision("float32"):
        assert core.get_compute_type(np.float32) == core._routines_linalg.COMPUTE_TYPE_DEFAULT


@pytest.mark.parametrize(
    ("capability", "name", "text"),
    [
        ("75", "tf32", "precision='tf32' needs a GPU of compute capability 8.0, strict has 7.5"),
        ("61", "float16", "precision='float16' needs a GPU of compute capability 7.0"),
        ("90", "int8", "precision='int8': expected one of float32, tf32, float16"),
    ],
)
def test_what_a_gpu_cannot_do(strict, monkeypatch, capability, name, text):
    monkeypatch.setattr(strict_cupy.cuda.Device, "compute_capability", capability)
    with pytest.raises(ArgumentError, match=re.escape(text)), strict.precision(name):
        pass


@pytest.mark.parametrize("name", ["tf32", "float16"])
def test_the_cpu_does_float32_only(name):
    with pytest.raises(ArgumentError, match=f"precision='{name}' needs a CUDA GPU: cpu"):
        backends.get("cpu").precision(name)
    model = models.create("mlp", input_shape=(4,))
    trainer = xcnn.Trainer(model, optim.SGD(model.parameters()), precision=name)
    with pytest.raises(ArgumentError, match="needs a CUDA GPU"):
        trainer.fit(normal(4, 4), np.zeros(4, int))


def test_slow_compilation_is_announced(capsys):
    with announce_if_slow("xcnn: compiling", after=0.01):
        time.sleep(0.2)
    assert capsys.readouterr().err == "xcnn: compiling\n"
    with announce_if_slow("xcnn: compiling", after=10):
        pass
    assert capsys.readouterr().err == ""


# -- matrix products ------------------------------------------------------------------------

VIEWS = {
    "contiguous": lambda *shape: normal(*shape),
    "transposed": lambda *shape: normal(*shape[:-2], shape[-1], shape[-2]).swapaxes(-1, -2),
    "slice of columns": lambda *shape: normal(*shape[:-1], shape[-1] + 5)[..., 2:-3],
    "slice of transposed": lambda *shape: VIEWS["slice of columns"](
        *shape[:-2], shape[-1], shape[-2]
    ).swapaxes(-1, -2),
    "every other matrix": lambda *shape: normal(2 * shape[0], *shape[1:])[::2],
}


def upload(backend, view, dtype):
    """The view of an array on the device."""
    whole = view if view.base is None else view.base
    whole = whole if whole.base is None else whole.base
    device = backend.asarray(whole.astype(dtype))
    offset = (view.ctypes.data - whole.ctypes.data) // whole.itemsize
    strides = [s // whole.itemsize * device.itemsize for s in view.strides]
    return strict_cupy.lib.stride_tricks.as_strided(
        device.reshape(-1)[offset:], view.shape, strides
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("other", VIEWS)
def test_products_of_views_are_one_operation(strict, kind, other, dtype):
    host = VIEWS[kind](3, 4, 7), VIEWS[other](3, 7, 5)
    a, b = (upload(strict, view, dtype) for view in host)
    exact = np.matmul(*(strict.to_host(x).astype("float64") for x in (a, b)))
    with count_operations() as operations:
        product = strict.matmul(a, b)
        memory = strict_cupy.zeros((3, 4, 9), dtype)
        strict.matmul(a, b, out=memory[:, :, 1:6])
    assert dict(operations) == {"matmul": 2, "zeros": 1}
    assert product.dtype == dtype
    tolerance = {"float16": 4e-3, "float32": 1e-6, "float64": 1e-14}[dtype]
    for found in (product, memory[:, :, 1:6]):
        np.testing.assert_allclose(found.get(), exact, rtol=tolerance, atol=tolerance)
    assert not memory.get()[:, :, [0, 6, 7, 8]].any()


def test_stacks_broadcast_add_up_and_use_matrix_units(strict):
    x, w = (strict.asarray(normal(*shape, dtype="float32")) for shape in ((6, 4, 7), (7, 5)))
    cublas = strict_cupy.cuda.cublas
    cublas.CALLS.clear()
    with count_operations() as operations, strict.precision("tf32"):
        y = strict.matmul(x, w)
    assert dict(operations) == {"matmul": 1}
    assert cublas.CALLS == [(cublas.CUDA_R_32F, cublas.CUBLAS_COMPUTE_32F_FAST_TF32, 6)]
    np.testing.assert_allclose(y.get(), x.get() @ w.get(), rtol=1e-5, atol=1e-6)
    halves = x.astype("float16"), x.swapaxes(1, 2).astype("float16")
    sums = strict_cupy.ones((6, 4, 4), dtype="float32")
    strict.add_product(sums, halves[0], halves[0], first=False)  # half times half in float32
    assert cublas.CALLS[1:] == [(cublas.CUDA_R_16F, cublas.CUBLAS_COMPUTE_32F, 6)]
    exact = 1 + halves[0].get().astype(float) @ halves[1].get().astype(float)
    np.testing.assert_allclose(sums.get(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shapes", [((0, 2, 3), (0, 3, 4)), ((2, 3, 0), (2, 0, 4)), ((3,), (3, 2))])
def test_products_left_to_cupy(strict, shapes):
    a, b = (strict.asarray(normal(*shape)) for shape in shapes)
    product = strict.matmul(a, b)
    np.testing.assert_allclose(product.get(), a.get() @ b.get())


# -- diagnosis and warm-up -----------------------------------------------------------------


def test_a_device_is_described(strict):
    assert diagnosis.describe(strict) == (
        "stand-in without a GPU, compute capability 9.0, 16.0 of 16.0 GiB free, driver for CUDA "
        "13.0, CuPy for 13.0"
    )


def test_try_kernel(strict):
    assert diagnosis.try_kernel(strict) == "ok: compiled, run, and equal to the CPU's numbers"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            "cannot open cuda_fp16.h\nmore",
            "compiler or headers are missing; install them with: pip",
        ),
        ("libnvrtc.so.13 not found", "compiler or headers are missing"),
        ("an illegal memory access", "failed: an illegal memory access"),
    ],
)
def test_a_kernel_that_does_not_compile_or_run(strict, monkeypatch, error, text):
    def fail(*arguments, **settings):
        raise RuntimeError(error)

    monkeypatch.setattr(strict, "random_bits", fail)
    assert text in diagnosis.try_kernel(strict)


def test_wrong_numbers_are_reported(strict, monkeypatch):
    monkeypatch.setattr(
        strict, "random_bits", lambda count, key: strict_cupy.zeros(count, dtype="uint32")
    )
    assert diagnosis.try_kernel(strict) == "wrong numbers"


def test_several_cupy_packages_are_reported(monkeypatch):
    versions = {"cupy-cuda12x": "14.1.0", "cupy-cuda13x": "14.2.0"}

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    [text] = diagnosis.warnings()
    assert "2 CuPy packages are installed (cupy-cuda13x 14.2.0, cupy-cuda12x 14.1.0)" in text
    assert "pip uninstall cupy-cuda13x cupy-cuda12x, then pip install" in text
    del versions["cupy-cuda12x"]
    assert diagnosis.warnings() == []


def test_warm_up_compiles_every_variant_once(strict, monkeypatch):
    asked = []
    monkeypatch.setattr(kernels, "variants", lambda dtypes: map(Variant, kernels.FILES))
    monkeypatch.setattr(strict._kernels, "compile", asked.append)
    assert list(strict.warmup()) == [f"{file}.cu for float32" for file in kernels.FILES]
    assert asked == [Variant(file) for file in kernels.FILES]
    assert list(backends.get("cpu").warmup()) == []


def test_nothing_waits_in_a_step_with_uploads(strict):
    """An epoch waits only in the copying thread, and at its end."""
    model = models.create("mlp", input_shape=(4,)).to(strict)
    trainer = xcnn.Trainer(model, optim.Adam(model.parameters()), precision="float16")
    with count_syncs() as syncs:
        trainer.fit(normal(64, 4), np.arange(64) % 10, batch_size=8, progress=False)
    others = [line for line in syncs if "transfer.py" not in line]
    # the loss, the right answers, what they are divided by, and whether the weights are finite
    assert [line.split(" at ")[0] for line in others] == [*["float"] * 4, "bool"]


def test_a_training_uses_the_memory_of_its_gpu_only(gpus):
    """The second, though the first is CUDA's current device."""
    x, y = normal(12, 1, 8, 8, dtype="float32"), np.arange(12) % 3

    def trainer():
        layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)
        model = nn.Sequential(*layers, nn.Linear(72, 3)).to(gpus[1])
        return xcnn.Trainer(model, optim.Adam(model.parameters()), metrics=["f1"])

    first, second = trainer(), trainer()
    first.fit(x, y, epochs=1, batch_size=5, validation=(x, y), progress=False)
    second.load_state_dict(first.state_dict())
    second.fit(x, y, epochs=1, batch_size=5, progress=False)
    np.testing.assert_array_equal(first.predict(x).shape, second.predict(x).shape)
    assert {p.data.device.id for p in second.model.parameters()} == {1}
    assert second.evaluate(x, y)["f1"] >= 0
    half = xcnn.tensor(x, device=gpus[1]).astype("int32")
    assert half.data.device.id == 1
