"""Style transfer: losses, optimisation and the network for one style, against PyTorch."""

from pathlib import Path

import numpy as np
import pytest

import xcnn
from xcnn import cli, data, models, nn, optim, tasks
from xcnn.errors import ArgumentError, DataError, DivergenceError, FileFormatError, ShapeError
from xcnn.testing import gradcheck

from .conftest import normal
from .test_super_resolution import picture, splits

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def layers(width=8):
    xcnn.manual_seed(0)
    sizes = [(3, width), (width, width), None, (width, 2 * width), (2 * width, 2 * width)]
    chain = []
    for size in sizes:
        chain += [nn.MaxPool2d(2)] if size is None else [nn.Conv2d(*size, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*chain)


@pytest.fixture
def features():
    return models.Features(layers(), MEAN, STD)


@pytest.fixture
def files(tmp_path, features):
    """A picture whose style is to be learned, and a file of features."""
    np.save(tmp_path / "style.npy", picture(40, 32, 7))
    xcnn.save(features, tmp_path / "features.safetensors")
    return {
        name: str(tmp_path / file)
        for name, file in (("style", "style.npy"), ("features", "features.safetensors"))
    }


# -- features -------------------------------------------------------------------------------------


def test_layers_have_the_names_of_the_papers(features):
    names = ["conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1"]
    assert features.names == [*names, "conv2_1", "relu2_1", "conv2_2", "relu2_2"]
    assert features.spread() == (["relu1_2"], ["relu1_1", "relu2_1"])
    assert not any(p.requires_grad for p in features.parameters())
    x = np.random.default_rng(0).random((2, 3, 8, 6), np.float32)
    found = features(x, ["relu1_2", "conv2_1"])
    assert list(found) == ["relu1_2", "conv2_1"]
    normalized = (x - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    wanted = layers()[:6](normalized.astype("float32")).numpy()
    np.testing.assert_allclose(found["conv2_1"].numpy(), wanted, atol=1e-5)
    with pytest.raises(ArgumentError, match=r"no layer 'relu4_2'.*relu"):
        features(x, ["relu4_2"])


@pytest.mark.parametrize("norm", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_features_from_weights_of_torchvision(tmp_path, norm):
    torch = pytest.importorskip("torch")
    from xcnn.models.vgg import vgg_features

    xcnn.manual_seed(1)
    full = models.vgg11_bn if norm else models.vgg11
    with xcnn.init.skipped():
        state = full(input_shape=(3, 32, 32)).features.state_dict()
    drawn = {
        f"features.{k}": np.full(v.shape, i, v.dtype) for i, (k, v) in enumerate(state.items())
    }
    torch.save({k: torch.tensor(v) for k, v in drawn.items()}, tmp_path / "vgg11.pth")
    found = models.load_features(tmp_path / "vgg11.pth")
    assert found.spread() == (["relu4_2"], [f"relu{n}_1" for n in range(1, 6)])
    weights = found.layers.state_dict()
    assert weights.keys() == state.keys()
    assert all(np.array_equal(weights[k], drawn[f"features.{k}"]) for k in weights)
    assert vgg_features({"features.0.weight": np.zeros((3, 3, 3, 3))}) is None


def test_features_from_saved_models(tmp_path, features):
    x = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    xcnn.save(features, tmp_path / "features.safetensors")
    xcnn.save(nn.Sequential({"features": layers()}), tmp_path / "network.safetensors")
    again = models.load_features(tmp_path / "features.safetensors")
    np.testing.assert_array_equal(again(x)["relu2_2"].numpy(), features(x)["relu2_2"].numpy())
    other = models.load_features(tmp_path / "network.safetensors")
    assert other.mean.numpy().ravel() == pytest.approx([0.485, 0.456, 0.406])
    xcnn.save(nn.Linear(2, 3), tmp_path / "linear.safetensors")
    with pytest.raises(FileFormatError, match=r"linear\.safetensors has a Linear without features"):
        models.load_features(tmp_path / "linear.safetensors")


# -- optimisation ---------------------------------------------------------------------------------


def test_gram_matrix(backend):
    x = normal(2, 3, 4, 5)
    wanted = np.zeros((2, 3, 3))
    for n in range(2):
        for i in range(3):
            for j in range(3):
                wanted[n, i, j] = sum(x[n, i].ravel() * x[n, j].ravel()) / (3 * 4 * 5)
    found = tasks.gram_matrix(backend.asarray(x, "float64")).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


class Peer:
    """The losses in PyTorch."""

    def __init__(self, torch, features, style):
        self.torch = torch
        chain = []
        for layer in features.layers:
            if isinstance(layer, nn.Conv2d):
                chain.append(torch.nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1))
            else:
                is_pool = isinstance(layer, nn.MaxPool2d)
                chain.append(torch.nn.MaxPool2d(2) if is_pool else torch.nn.ReLU())
        self.layers = torch.nn.Sequential(*chain)
        state = {k: torch.tensor(np.array(v)) for k, v in features.layers.state_dict().items()}
        self.layers.load_state_dict(state)
        self.layers.requires_grad_(False)
        self.names = features.names
        self.content, self.style = features.spread()
        self.grams = {n: self.gram(v) for n, v in self.found(torch.tensor(style)[None]).items()}

    def found(self, x):
        mean, std = (self.torch.tensor(v)[:, None, None] for v in (MEAN, STD))
        x, found = (x - mean) / std, {}
        for name, layer in zip(self.names, self.layers, strict=True):
            found[name] = x = layer(x)
        return found

    def gram(self, x):
        x = x.flatten(2)
        return x @ x.transpose(1, 2) / (x.shape[1] * x.shape[2])

    def terms(self, x, content, weight):
        found, wanted = self.found(x), self.found(content)
        mse = self.torch.nn.functional.mse_loss
        about = sum(mse(found[n], wanted[n]) for n in self.content)
        grams = {n: self.gram(found[n]) for n in self.style}
        style = sum(mse(g, self.grams[n].expand(g.shape)) for n, g in grams.items())
        return about, style * weight


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_optimisation_equals_pytorch(features, name):
    """20 steps from the same start: both losses are equal, and their sum falls."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    content, style = rng.random((3, 24, 20), np.float32), rng.random((3, 18, 16), np.float32)
    ours = tasks.style_transfer(content, style, features, 20, name, style_weight=300)
    peer = Peer(torch, features, style)
    x = torch.tensor(content)[None].requires_grad_()
    if name == "adam":
        algorithm = torch.optim.Adam([x], lr=0.02)
    else:
        algorithm = torch.optim.LBFGS(
            [x], lr=1, max_iter=1, max_eval=25, line_search_fn="strong_wolfe"
        )
    theirs = []

    def closure():
        algorithm.zero_grad()
        terms = peer.terms(x, torch.tensor(content)[None], 300)
        if len(theirs) == step:
            theirs.append([term.item() for term in terms])
        sum(terms).backward()
        return sum(terms)

    for step in range(20):  # noqa: B007  (closure reads it)
        algorithm.step(closure)
        with torch.no_grad():
            x.clamp_(0, 1)
    found = np.stack([ours.content_losses, ours.style_losses], 1)
    np.testing.assert_allclose(found, theirs, rtol=2e-3, atol=1e-7)
    assert found[-1].sum() < found[0].sum() / 2
    np.testing.assert_allclose(ours.picture.numpy(), x.detach().numpy(), atol=2e-3)


def test_optimisation_checks_its_arguments(features):
    x = np.zeros((3, 16, 16), np.uint8)
    for given, error, text in [
        ({"content": x[:1]}, ShapeError, r"content has shape \(1, 16, 16\): expected one picture"),
        ({"style": x[None].repeat(2, 0)}, ShapeError, "style has shape"),
        ({"start": x[:, :8]}, ShapeError, "start has shape .* expected that of content"),
        ({"optimizer": "sgd"}, ArgumentError, "optimizer='sgd'"),
        ({"style_weight": -1}, ArgumentError, "style_weight=-1"),
        ({"style_layers": ["conv9_1"]}, ArgumentError, "no layer 'conv9_1'"),
        ({"content": x[:, :1]}, ShapeError, "content has 16×1 pixels: these layers need .* 2×2"),
        ({"lr": float("inf")}, ArgumentError, "lr=inf: expected a number"),
        ({"lr": 0}, ArgumentError, "lr=0: expected a number"),
    ]:
        with pytest.raises(error, match=text):
            tasks.style_transfer(
                **{"content": x, "style": x, "features": features, "steps": 1, **given}
            )


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_optimisation_that_diverges(features, name):
    for weight in features.layers.parameters():
        weight.data *= 1e12
    content, style = picture(16, 16, 1), picture(16, 16, 2)
    with pytest.raises(DivergenceError, match=r"diverged at step 1, .*: use smaller weights"):
        tasks.style_transfer(content, style, features, 3, name)


# -- the network ----------------------------------------------------------------------------------


def transformer_of_pytorch(torch, width):
    """PyTorch's example fast_neural_style."""

    class Conv(torch.nn.Module):
        def __init__(self, i, o, size, stride, upsample=1):
            super().__init__()
            self.pad, self.upsample = torch.nn.ReflectionPad2d(size // 2), upsample
            self.conv2d = torch.nn.Conv2d(i, o, size, stride)

        def forward(self, x):
            if self.upsample > 1:
                x = torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")
            return self.conv2d(self.pad(x))

    norm = lambda n: torch.nn.InstanceNorm2d(n, affine=True)  # noqa: E731

    class Residual(torch.nn.Module):
        def __init__(self, n):
            super().__init__()
            self.conv1, self.in1 = Conv(n, n, 3, 1), norm(n)
            self.conv2, self.in2 = Conv(n, n, 3, 1), norm(n)

        def forward(self, x):
            return x + self.in2(self.conv2(torch.relu(self.in1(self.conv1(x)))))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            w = width
            self.conv1, self.in1 = Conv(3, w, 9, 1), norm(w)
            self.conv2, self.in2 = Conv(w, 2 * w, 3, 2), norm(2 * w)
            self.conv3, self.in3 = Conv(2 * w, 4 * w, 3, 2), norm(4 * w)
            for n in range(1, 6):
                setattr(self, f"res{n}", Residual(4 * w))
            self.deconv1, self.in4 = Conv(4 * w, 2 * w, 3, 1, 2), norm(2 * w)
            self.deconv2, self.in5 = Conv(2 * w, w, 3, 1, 2), norm(w)
            self.deconv3 = Conv(w, 3, 9, 1)

        def forward(self, x):
            for n in (1, 2, 3):
                x = torch.relu(getattr(self, f"in{n}")(getattr(self, f"conv{n}")(x)))
            for n in range(1, 6):
                x = getattr(self, f"res{n}")(x)
            x = torch.relu(self.in4(self.deconv1(x)))
            return self.deconv3(torch.relu(self.in5(self.deconv2(x))))

    return Net()


def test_training_equals_pytorch(features):
    """20 steps of Adam from the same weights on the same batches."""
    torch = pytest.importorskip("torch")
    style = picture(32, 32, 7)
    xcnn.manual_seed(0)
    model = models.transformer_net(width=4)
    peer = transformer_of_pytorch(torch, 4)
    peer.load_state_dict({k: torch.tensor(np.array(v)) for k, v in model.state_dict().items()})
    loss = tasks.StyleLoss(features, style, style_weight=300)
    trainer = xcnn.Trainer(
        model, optim.Adam(model.parameters(), 1e-4), loss=loss, metrics=loss.term_names
    )
    algorithm = torch.optim.Adam(peer.parameters(), 1e-4)
    of_peer = Peer(torch, features, style / np.float32(255))
    x, _ = splits().train[:6]
    x = x / np.float32(255)
    ours, theirs = [], []
    for step in range(20):
        batch = x[step % 3 :: 3]
        ours.append(trainer.train_step(batch, batch).loss.item())
        algorithm.zero_grad()
        inputs = torch.tensor(batch)
        total = sum(of_peer.terms(peer(inputs), inputs, 300))
        total.backward()
        algorithm.step()
        theirs.append(total.item())
    np.testing.assert_allclose(ours, theirs, rtol=2e-3)
    assert ours[-1] < ours[0] * 0.9
    values = trainer.evaluate(x, x)
    assert values["loss"] == pytest.approx(values["content_loss"] + values["style_loss"])


def test_total_variation(features):
    x = np.zeros((1, 3, 16, 16), np.float32)
    x[:, :, :, ::2] = 1  # each pixel differs from its neighbours in the row
    loss = tasks.StyleLoss(features, x, content_weight=0, style_weight=0, tv_weight=2)
    assert loss(x, x).item() == pytest.approx(2)


def test_gradients_of_the_loss():
    smooth = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 5, 3)]
    features = models.Features(nn.Sequential(*smooth, nn.ReLU()), MEAN, STD).to(dtype="float64")
    style, content, x = (np.random.default_rng(n).random((2, 3, 8, 6)) for n in range(3))
    loss = tasks.StyleLoss(features, style[0], None, None, 2, 30, 0.5)
    assert gradcheck(lambda x: loss(x, content), x) < 1e-6


def test_the_task(files):
    task = tasks.StyleTransfer.of_data(splits(), **files)
    x, y = task.transform("flip")(*splits().train[:2])
    np.testing.assert_array_equal(x, y)
    assert x.max() <= 1
    assert tasks.from_settings(task.settings()).settings() == task.settings()
    for wrong, error, text in [
        ({"style": None}, ArgumentError, "needs the picture whose style is learned: pass --style"),
        ({"features": None}, ArgumentError, "pass --features FILE"),
        (
            {"style": "no.png"},
            DataError,
            r"^style='.*no.png': there is no such file; .*--style FIL",
        ),
        ({"features": files["style"]}, FileFormatError, r"^[^ ]*style\.npy"),
        ({"style": files["features"]}, DataError, r"^[^ ]*features\.safetensors"),
        ({"tv_weight": float("inf")}, ArgumentError, "tv_weight=inf: expected a number from 0 to"),
        ({"style_weight": 1e38}, ArgumentError, "style_weight=1e.38: expected a number from 0 to"),
    ]:
        with pytest.raises(error, match=text):
            tasks.StyleTransfer.of_data(splits(), **{**files, **wrong})
    for size, text in ((18, "divisible by 4; pass --image-size 16"), (12, "at least 16×16")):
        with pytest.raises(ArgumentError, match=text):
            tasks.StyleTransfer.of_data(splits(size=size), **files)
    np.save(files["style"], picture(1, 1))
    with pytest.raises(ShapeError, match=r"^style has 1×1 pixels: these layers need at least 2×2"):
        tasks.StyleTransfer.of_data(splits(), **files)
    with pytest.raises(DataError, match=r"has 1×1 pixels: style-transfer needs at least 16×16"):
        task.read(files["style"])


def test_the_smallest_picture_that_layers_can_be_computed_of():
    from xcnn.models.vgg import _layers

    with xcnn.init.skipped():
        vgg = models.Features(nn.Sequential(*_layers(3, (1, 1, 2, 2, 2), False)))
    assert vgg.least_size(["relu5_1", "relu1_1"]) == 16
    assert vgg.least_size(["pool5"]) == 32
    assert vgg(np.zeros((1, 3, 16, 16), np.float32), ["relu5_1"])["relu5_1"].shape[2:] == (1, 1)


def test_features_of_a_run(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(FileFormatError, match="run is a folder, but not of a run: expected"):
        models.load_features(run)
    xcnn.save(nn.Sequential({"features": layers()}), run / "model.safetensors")
    (run / "config.json").write_text('{"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}')
    found, x = models.load_features(run), np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    expected = models.Features(layers(), MEAN, STD)(x)["relu2_2"].numpy()
    np.testing.assert_array_equal(found(x)["relu2_2"].numpy(), expected)
    (run / "config.json").write_text("{}")
    with pytest.raises(FileFormatError, match=r"config\.json is damaged"):
        models.load_features(run)


# -- commands -------------------------------------------------------------------------------------


def test_style_command(tmp_path, monkeypatch, capsys, files):
    monkeypatch.chdir(tmp_path)
    np.save("photo.npy", picture(30, 48))
    command = ["style", "photo.npy", files["style"], "--features", files["features"]]
    assert cli.main([*command, "--steps", "3", "--size", "24", "--style-weight", "300"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("step 1/3: content 0, style ")
    assert out.splitlines()[1].startswith("step 3/3: ")
    assert out.endswith("style.png: 24×15 pixels\n")
    assert data.read_image("style.png", (3, None, None)).shape == (3, 15, 24)
    assert cli.main([*command, "--steps", "1", "--style-layers", "relu7_1"]) == 2
    assert "no layer 'relu7_1'" in capsys.readouterr().err
    for line in ("--tv-weight=inf", "--style-weight=-1", "--lr=nan", "--content-weight=1e38"):
        with pytest.raises(SystemExit):
            cli.main(["style", "no.png", "no.png", "--features", "no", line])
        assert f"argument {line.partition('=')[0]}: " in capsys.readouterr().err
    assert cli.main([*command, "--out", "x.jpg"]) == 2
    assert "--out x.jpg: expected a name that ends in .png" in capsys.readouterr().err


def test_training_command(tmp_path, monkeypatch, capsys, files):
    """Train on the user's pictures, go on, predict, and predict with the exported file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    for seed in range(5):
        np.save(tmp_path / "own" / f"{seed}.npy", picture(20, 26, seed))
    np.save("new.npy", picture(21, 30, 9))
    train = "train --task style-transfer --data own --image-size 16 --quiet"
    options = [f"--{name}={file}" for name, file in files.items()]
    assert cli.main([*train.split(), *options, "--epochs", "1", "--out", "run"]) == 0
    for name, file in files.items():
        Path(file).rename(tmp_path / f"moved{Path(file).suffix}")
        files[name] = f"moved{Path(file).suffix}"
    capsys.readouterr()
    for command in (["train", "--resume", "run"], ["evaluate", "run"]):
        assert cli.main(command) == 2
        text = capsys.readouterr().err
        assert "there is no such file; if that of a run was moved" in text
        assert "layer" not in text
    moved = [f"--{name}={file}" for name, file in files.items()]
    assert cli.main(["train", "--resume", "run", "--epochs", "2", "--quiet", *moved]) == 0
    assert cli.main(["evaluate", "run"]) == 0
    assert capsys.readouterr().out.count("content loss ") == 2
    assert cli.main(["predict", "run", "new.npy"]) == 0
    assert "30×21 pixels" in capsys.readouterr().out
    predicted = data.read_image("predictions/run/new.png", (3, None, None))
    assert predicted.shape == (3, 21, 30)
    pytest.importorskip("onnx")
    assert cli.main(["export", "run", "run.onnx"]) == 0
    assert xcnn.onnx.load("run.onnx").metadata["style"] == '"moved.npy"'  # no folder
    assert "from 0 to 1: clip it; height and width are multiples of 4" in capsys.readouterr().out
    assert cli.main(["export", "run", "clipped.onnx", "--postprocess"]) == 0
    x = 9 * np.random.default_rng(0).standard_normal((1, 3, 21, 30)).astype("float32")
    found, clipped = (xcnn.onnx.load(f"{name}.onnx")(x).numpy() for name in ("run", "clipped"))
    assert found.shape == (1, 3, 24, 32)
    assert np.abs(found - 0.5).max() > 0.5
    np.testing.assert_allclose(clipped, np.clip(found, 0, 1), atol=1e-5)
    assert cli.main(["predict", "run.onnx", "new.npy", "--out", "other"]) == 0
    other = data.read_image("other/new.png", (3, None, None))
    assert np.abs(predicted.astype(int) - other).max() <= 1
