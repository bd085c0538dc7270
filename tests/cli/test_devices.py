"""``--device`` and its options, ``xcnn doctor`` and ``warmup``."""

import importlib.util
import os
import sys
import types

import numpy as np
import pytest

import xcnn
from xcnn import backends

from .runs import config, history


def test_doctor(run):
    done = run("doctor")
    assert done.status == 0
    rows = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert rows["xcnn"].startswith(xcnn.__version__)
    assert rows["numpy"] == np.__version__
    assert "device cpu     ok" in done.out
    assert {"scipy", "tqdm", "pillow", "CuPy", "device", "BLAS"} <= set(rows)


def test_doctor_lists_each_gpu(run, strict, monkeypatch):
    monkeypatch.setattr(backends, "cuda_devices", lambda: ["strict"])
    monkeypatch.setattr(backends.diagnosis, "try_kernel", lambda backend: f"ran on {backend}")
    lines = run("doctor").out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("strict "))
    assert "stand-in without a GPU, compute capability 9.0, 16.0 of 16.0 GiB free" in lines[at]
    assert lines[at + 1].strip() == f"test kernel: ran on {strict}"


def test_warmup(run, strict, monkeypatch):
    monkeypatch.setattr(strict, "warmup", lambda: iter(["im2col.cu for float32"]))
    monkeypatch.setattr(xcnn.models, "create", lambda name: xcnn.models.mlp())  # fewer kernels
    steps = []
    real = xcnn.Trainer.train_step
    monkeypatch.setattr(
        xcnn.Trainer, "train_step", lambda self, *batch: steps.append(self) or real(self, *batch)
    )
    done = run("warmup --device strict")
    assert (done.status, [trainer.precision for trainer in steps]) == (0, ["float32", "float16"])
    assert {trainer.model.device for trainer in steps} == {"strict"}
    assert "1 kernel modules of xcnn and those of CuPy" in done.out
    assert run("warmup --device cpu").err == (
        "xcnn: error: there is nothing to compile for the CPU; choose --device cuda\n"
    )


def test_evaluate_on_another_device(run):
    assert run("train mlp --limit 50 --epochs 1 --quiet --device strict --out run").status == 0
    assert config("run")["device"] == "strict"
    answers = [run(f"evaluate run --limit 50 --device {d}").out for d in ("strict", "cpu")]
    assert answers[0] == answers[1]
    accuracy = float(history("run")[0]["val_accuracy"])
    assert answers[0].startswith(f"digits test: accuracy {accuracy:.2%} (")


def test_training_in_float16_on_a_gpu(run, strict):
    line = "train mlp --limit 40 --epochs 2 --device strict --precision float16 --out run"
    done = run(line)
    assert done.status == 0
    assert "float16: " in done.out
    assert config("run")["precision"] == "float16"
    assert {p.dtype.name for p in xcnn.load("run/model.safetensors").parameters()} == {"float32"}


@pytest.mark.parametrize("name", ["tf32", "float16"])
def test_the_cpu_refuses_other_precisions(run, name):
    done = run(f"train --device cpu --precision {name} --out run")
    assert done.status == 2
    assert f"precision='{name}' needs a CUDA GPU" in done.err
    assert not os.path.exists("run")


def test_memory_limit(run, strict):
    assert "a memory limit applies to GPU memory" in run("train --memory-limit 1GiB").err
    budget = strict.column_budget
    try:
        done = run("train --device strict --limit 64 --epochs 1 --memory-limit 1.0MiB --out run")
        assert done.status == 2
        assert "strict is out of memory" in done.err
        assert "the memory limit is 1.0 MiB" in done.err
        assert not os.path.exists("run")
    finally:
        strict._pool.set_limit(size=0)
        strict.column_budget = budget


@pytest.fixture
def no_gpu_opened(monkeypatch):
    monkeypatch.setattr(backends, "_by_name", {"cpu": backends.get("cpu")})


@pytest.mark.parametrize("command", ["train", "evaluate {trained}", "predict {trained} a.png"])
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_no_cupy(run, trained, monkeypatch, no_gpu_opened, command, device):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = run(f"{command.format(trained=trained)} --device {device}")
    assert (done.status, done.out) == (2, "")
    number = device.partition(":")[2] or "0"
    assert done.err == (
        f"xcnn: error: device cuda:{number} is not available: CuPy is not installed; install it "
        'with: pip install "cupy-cuda13x[ctk]"   (for a driver of CUDA 13; cupy-cuda12x for CUDA '
        "12)\n"
    )


def test_no_driver(run, monkeypatch, no_gpu_opened):
    def count():
        raise RuntimeError("cudaErrorNoDevice")

    runtime = types.SimpleNamespace(
        getDeviceCount=count, driverGetVersion=lambda: 0, runtimeGetVersion=lambda: 13020
    )
    fake = types.ModuleType("cupy")
    fake.__spec__ = types.SimpleNamespace()
    fake.ndarray = type("ndarray", (), {})
    fake.__version__, fake.is_available = "14.2.0", lambda: False
    fake.cuda = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    done = run("train --device cuda")
    assert done.status == 2
    assert "CuPy 14.2.0 is installed, but the CUDA driver does not answer" in done.err
    assert "sudo apt install nvidia-driver" in done.err
    assert "nvidia-smi" in done.err
    assert run("train --limit 9 --epochs 1 --quiet").status == 0  # auto uses the CPU
