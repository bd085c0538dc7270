"""``weights=`` of the networks: files, and URLs by way of a server on localhost."""

import hashlib
import re

import numpy as np
import pytest

import xcnn
from xcnn import models
from xcnn.data import sources
from xcnn.errors import ArgumentError, DataError, FileFormatError, StateDictError, XcnnError
from xcnn.models import weights

from .data.conftest import isolated, server  # noqa: F401  (fixtures)


@pytest.fixture
def saved(tmp_path):
    """A network of random weights, and its file."""
    xcnn.manual_seed(3)
    model = models.squeezenet1_1(5)
    xcnn.save(model, tmp_path / "weights.safetensors")
    return model, tmp_path / "weights.safetensors"


def assert_equal(model, other):
    expected = other.state_dict()
    assert model.state_dict().keys() == expected.keys()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_file(saved):
    model, path = saved
    assert_equal(models.squeezenet1_1(5, weights=path), model)
    created = models.create("squeezenet1_1", num_classes=5, weights=str(path))
    assert_equal(created, model)
    assert created.training  # as with random weights


def test_every_network_takes_weights(tmp_path):
    for name in ("lenet5", "autoencoder", "mobilenet_v3_small"):
        model = models.create(name)
        xcnn.save(model, tmp_path / name)
        assert_equal(models.create(name, weights=tmp_path / name), model)


def test_weights_that_do_not_fit(saved, tmp_path):
    _, path = saved
    with pytest.raises(StateDictError, match=r"weights='.*'[\s\S]*num_classes=5, and then rep"):
        models.squeezenet1_1(weights=path)
    with pytest.raises(StateDictError, match="must be for the same network"):
        models.squeezenet1_0(5, weights=path)
    xcnn.save(models.googlenet(5, aux_logits=True), tmp_path / "aux.safetensors")
    with pytest.raises(StateDictError, match="build the network with aux_logits=True"):
        models.googlenet(5, weights=tmp_path / "aux.safetensors")
    assert models.googlenet(5, aux_logits=True, weights=tmp_path / "aux.safetensors")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("nothing.pth", FileNotFoundError, "no such file: nothing.pth"),
        ("DEFAULT", ArgumentError, "expected a path or a URL; torchvision's documentation lists"),
        ("IMAGENET1K_V1", ArgumentError, "expected a path or a URL"),
        ("https://host/resnet18.pth", ArgumentError, "has no digest: append #sha256="),
        ("http://host/resnet18-f37072fd.pth", ArgumentError, "has no digest"),
        ("https://host/x.pth#sha256=12", ArgumentError, "#sha256= and 64 digits"),
        ("https://host/..", ArgumentError, "the name of a file at the end"),
        ("file:///etc/passwd", ArgumentError, "expected https://"),
        ("https://host/", ArgumentError, "expected https://"),
        (True, XcnnError, "weights"),
    ],
)
def test_errors(value, error, text):
    with pytest.raises(error, match=re.escape(text)):
        models.squeezenet1_1(5, weights=value)


def test_a_url(saved, server, tmp_path):  # noqa: F811
    model, path = saved
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    url = f"{server.url}/models/net.safetensors#sha256={digest.upper()}"
    server.responses["/models/net.safetensors"] = content
    for _ in range(2):
        assert_equal(models.squeezenet1_1(5, weights=url), model)
    assert server.requests == ["/models/net.safetensors"]  # the second is from the cache
    kept = tmp_path / "cache" / "weights" / digest[:8] / "net.safetensors"
    assert kept.read_bytes() == content
    kept.write_bytes(content[:-1])
    assert_equal(models.squeezenet1_1(5, weights=url), model)  # downloaded again
    assert len(server.requests) == 2


def test_a_url_of_something_else(saved, server, tmp_path, monkeypatch):  # noqa: F811
    _, path = saved
    content = path.read_bytes()
    url = f"{server.url}/net.pth#sha256={hashlib.sha256(content).hexdigest()}"
    server.responses["/net.pth"] = content + b"?"
    with pytest.raises(DataError, match=r"sent another file[\s\S]*pass its path, or put it into"):
        models.squeezenet1_1(5, weights=url)
    monkeypatch.setattr(weights, "MAX_BYTES", 1000)
    server.responses["/net.pth"] = content
    with pytest.raises(DataError, match=f"{len(content)} bytes, expected at most 1000"):
        models.squeezenet1_1(5, weights=url)

    def unannounced(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    server.responses["/net.pth"] = unannounced
    with pytest.raises(DataError, match="sent more than 1000 bytes"):
        models.squeezenet1_1(5, weights=url)
    assert not list((tmp_path / "cache").rglob("*.pth"))
    with pytest.raises(DataError, match="Without a network, download it elsewhere and pass its"):
        models.squeezenet1_1(5, weights="http://127.0.0.1:9/a.pth#sha256=" + 64 * "0")


def test_a_digest_in_the_name(saved, monkeypatch, tmp_path):
    """As in torchvision's URLs; the download itself is tested above."""
    model, path = saved
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    file = f"squeezenet-{digest[:8]}.pth"
    folder = tmp_path / "cache" / "weights" / digest[:8]
    asked = []

    def fetch(name, mirrors, destination, expected, limit):
        asked.append((name, mirrors, destination, expected))
        folder.mkdir(parents=True)
        (folder / name).write_bytes(path.read_bytes())
        return folder / name

    monkeypatch.setattr(sources, "fetch", fetch)
    for _ in range(2):
        assert_equal(models.squeezenet1_1(5, weights=f"https://host/models/{file}"), model)
    expected = sources.Digest("sha256", digest[:8])
    assert asked == [(file, ["https://host/models"], folder, expected)]


def test_first_digits_of_a_digest(server, tmp_path):  # noqa: F811
    server.responses["/f"] = b"content"
    digest = hashlib.sha256(b"content").hexdigest()
    short = sources.Digest("sha256", digest[:8])
    assert sources.fetch("f", [server.url], tmp_path / "a", short).read_bytes() == b"content"
    with pytest.raises(DataError, match=f"sha256 is {digest}, expected {digest[1:9]}"):
        sources.fetch("f", [server.url], tmp_path, sources.Digest("sha256", digest[1:9]))


def test_old_names_of_torchvision(tmp_path):
    """Its networks rename them too: norm.1 of a dense layer, linear_1 of a transformer."""
    torch = pytest.importorskip("torch")
    model = models.densenet121(3)
    state = {k: torch.tensor(v) for k, v in model.state_dict().items()}
    path = tmp_path / "old.pth"
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))(\d)")
    old = {pattern.sub(r"\1.\2", key): value for key, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, path)
    assert_equal(models.densenet121(3, weights=path), model)
    part = models.PARTS["VisionTransformer"]((3, 16, 16), 3, 8, 1, 2, 6, 5)
    key = "encoder.layers.encoder_layer_0.mlp.{}.weight"
    old = {key.format("linear_1"): torch.ones(5, 6), key.format("linear_2"): torch.ones(6, 5)}
    torch.save(old, path)
    assert list(models.read_weights(part, path)) == [key.format(0), key.format(3)]


def test_a_damaged_file(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(FileFormatError, match=r"x\.pth is not a complete PyTorch file"):
        models.lenet5(weights=tmp_path / "x.pth")
