"""The cases: every library computes the same thing."""

import dataclasses
from functools import partial

import numpy as np
import pytest

import xcnn
from benchmarks import cases, peers
from benchmarks.worker import Server
from xcnn import nn
from xcnn.summary import layers

OPERATIONS = list(cases.operations())
SMALL = {"image": (3, 32, 32), "pixels": (32, 32), "build": partial(cases.unet, width=8)}
NETWORKS = {  # smaller images make the same network quicker
    "lenet": (cases.LENET, 61_706),
    "vgg": (cases.VGG, 307_498),
    "resnet20": (dataclasses.replace(cases.RESNET20, image=(3, 16, 16)), 269_722),
    "resnet18": (dataclasses.replace(cases.RESNET18, image=(3, 64, 64)), 11_689_512),
    "mobilenet": (dataclasses.replace(cases.MOBILENET, image=(3, 64, 64)), 3_504_872),
    "unet": (dataclasses.replace(cases.UNET, **SMALL), 486_562),
}


@pytest.fixture(scope="module")
def ours():
    return peers.Xcnn()


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("torch")
    return peers.Torch()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_alike(name, ours, theirs):
    network, parameters = NETWORKS[name]
    mine, other = (network.build(peer) for peer in (ours, theirs))
    other.load_state_dict({k: theirs.user(np.array(a)) for k, a in mine.state_dict().items()})
    losses, outputs = [], []
    for peer, model in ((ours, mine), (theirs, other)):
        built = dataclasses.replace(network, build=lambda peer, model=model: model)
        work = built.training(peer, 4)
        assert work.parameters == parameters
        losses.append([work.step().item() for _ in range(2)])
        outputs.append(peer.host(built.forward(peer, 4).step()))
    np.testing.assert_allclose(*losses, rtol=2e-3)
    assert losses[0][0] != losses[0][1]
    np.testing.assert_allclose(*outputs, atol=2e-2 * np.abs(outputs[1]).max())


@pytest.mark.parametrize("case", OPERATIONS, ids=lambda case: case.name)
def test_operations_give_the_same(case, ours, theirs):
    if case.name == "adam":
        mine, other = case.make(ours), case.make(theirs)
        assert mine.parameters == other.parameters == NETWORKS["resnet20"][1]
        return
    mine, other = (case.make(peer, batch=2).step() for peer in (ours, theirs))
    if case.name.endswith("forward"):
        mine, other = (mine,), (other,)
    gradients = 0 if case.name.endswith("forward") else 2 if case.name.startswith("conv") else 1
    assert len(mine) == len(other) == 1 + gradients
    for actual, expected in zip(mine, map(theirs.host, other), strict=True):
        atol = 1e-4 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(ours.host(actual), expected, rtol=0, atol=atol)


def test_adam_steps_give_the_same(ours, theirs):
    value, gradient = np.random.default_rng(0).standard_normal((2, 50), dtype=np.float32)
    updated = []
    for peer, kind in ((ours, xcnn.Parameter), (theirs, theirs.nn.Parameter)):
        leaf = kind(peer.user(value.copy()))
        leaf.grad = peer.user(gradient)
        peer.optim.Adam([leaf], **cases.SETTINGS["Adam"]).step()
        updated.append(peer.host(leaf))
    np.testing.assert_allclose(*updated, atol=1e-6)
    assert np.abs(updated[0] - value).max() > 5e-4


def test_pydynet_trains_the_same_network():
    pytest.importorskip("pydynet")
    work = cases.LENET.training(peers.PyDyNet(), batch=4)
    assert work.parameters == NETWORKS["lenet"][1]
    losses = [work.step().item() for _ in range(24)]
    assert sum(losses[-4:]) < sum(losses[:4])


def test_training_on_the_stand_in_for_a_gpu(strict):
    server = Server("xcnn", "strict", print)
    server._peer = peers.Xcnn("strict")
    server._peer.clock = lambda call, hold: call() and hold
    server._step = cases.LENET.training(server._peer, 4, "float16").step
    answer = server.answer({"steps": 3})
    assert len(answer["blocks"]) == 1
    assert answer["gpu"] == 2e-3 + 1.5 * answer["queue"]
    assert server._step().item() < 10


@pytest.mark.parametrize("size", [cases.Size(32, 16, 32, 2), cases.Size(3, 4, 8, 1)])
def test_work_of_a_growing_network(size):
    network = cases.nets.plain(nn, *size[1:])
    rows = layers(network, (size.channels, size.image, size.image))
    convolutions = [row.multiply_adds for row in rows if row.kind == "Conv2d"]
    others = sum(row.multiply_adds for row in rows if row.kind == "Linear")
    assert size.work == size.batch * (3 * (sum(convolutions) + others) - convolutions[0])
    assert cases.find(size.name).name == size.name


def test_selection():
    names = ["a-1", "a-12", "b"]
    assert cases.select([], names) == names
    assert cases.select(["a-1"], names) == ["a-1"]  # not a-12, which it begins
    assert cases.select(["b", "a-?2"], names) == ["a-12", "b"]
    with pytest.raises(ValueError, match="c: matches none of a-1, a-12, b"):
        cases.select(["a", "c"], names)
