"""Super-resolution: its data, networks, task and commands, against Pillow and PyTorch."""

import numpy as np
import pytest

import xcnn
from xcnn import cli, data, models, nn, optim, tasks
from xcnn.data.sources import photos
from xcnn.errors import ArgumentError, DataError, ExportError, FileFormatError
from xcnn.tasks import super_resolution as sr

from .conftest import normal

pytest.importorskip("PIL", reason="needs pillow")


def has_photographs():
    try:
        return bool(photos.photographs())
    except DataError:
        return False


needs_photographs = pytest.mark.skipif(
    not has_photographs(), reason="needs: the pictures of scikit-image or scikit-learn"
)


def picture(height, width, seed=0):
    """Smooth colours with an edge, uint8 (3, H, W)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / rng.uniform(2, 9) + columns / rng.uniform(2, 9)) for _ in range(3)]
    x = 0.5 + 0.3 * np.array(waves) + 0.2 * (rows > columns)
    return np.clip(x * 255, 0, 255).astype(np.uint8)


def splits(count=12, size=24):
    x = np.stack([picture(size, size, seed) for seed in range(count)])
    train, test = data.ArrayDataset(x, x), data.ArrayDataset(x[:4], x[:4])
    shape = (3, size, size)
    return data.DataSplits("waves", train, test, [], (0.5,) * 3, (0.2,) * 3, "images", "", shape)


# -- data -----------------------------------------------------------------------------------------


@needs_photographs
def test_photos():
    found = data.load("photo-crops", limit=30)
    x, y = found.train.arrays
    assert x.shape == (30, 3, 96, 96)
    assert x.dtype == np.uint8
    np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(x, photos.photos(30)[0])  # the same each time
    train, test = photos.photographs(), photos.photographs(test=True)
    assert not any(np.array_equal(a, b) for a in train for b in test)
    assert x.std(axis=(1, 2, 3)).min() > 8
    for crop in found.test.arrays[0][:3]:  # is in one of the pictures for testing
        assert any(crop.tobytes() == part.tobytes() for t in test for part in places(t, crop))


def places(image, crop):
    """The parts of an image whose first pixel is that of a crop."""
    size = crop.shape[1]
    rows, columns = np.nonzero((image == crop[:, :1, :1]).all(axis=0))
    return [image[:, y : y + size, x : x + size] for y, x in zip(rows, columns, strict=True)]


def test_photos_without_the_packages(monkeypatch):
    monkeypatch.setattr(photos, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install scikit-image pillow, or pass .* --data FOLD"):
        data.load("photo-crops")


def test_crops_of_a_folder(tmp_path):
    whole = {name: picture(60, 70, seed) for seed, name in enumerate("abcde")}
    (tmp_path / "inside").mkdir()
    for name, pixels in whole.items():
        np.save(tmp_path / ("inside" if name == "e" else "") / f"{name}.npy", pixels)
    found = data.load_crops(tmp_path, size=24)
    assert (len(found.train), len(found.test)) == (4 * 4, 4)  # 2 · 2 crops, a picture held out
    assert found.classes == []
    owners = []
    for crop, target in (*found.train, *found.test):
        np.testing.assert_array_equal(crop, target)
        corners = [(y, x) for y in (0, 24) for x in (0, 24)]
        owners += [
            name
            for name, p in whole.items()
            if any(np.array_equal(p[:, y : y + 24, x : x + 24], crop) for y, x in corners)
        ]
    assert sorted(owners) == sorted([*"abcde"] * 4)
    assert len({*owners[:16]} & {*owners[16:]}) == 0
    assert len(data.load_crops(tmp_path, size=24, limit=3).train) == 3
    task = tasks.SuperResolution(input_shape=(3, 8, 8), upscale=3)
    split, test = task.test_folder(tmp_path, False, size=(8, 8), channels=3)
    assert (split, len(test), test[0][0].shape) == ("test", 4, (3, 24, 24))
    with pytest.raises(DataError, match=r"\.npy has 70×60 pixels, fewer than a crop of 64×64"):
        data.load_crops(tmp_path, size=64)


# -- interpolation --------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_interpolation_is_that_of_pillow(factor, backend):
    from PIL import Image

    pixels = picture(48, 36)
    image = Image.fromarray(np.moveaxis(pixels, 0, 2))
    small = image.resize((36 // factor, 48 // factor), Image.Resampling.BICUBIC)
    ours = sr.shrink(backend.asarray(pixels[None] / np.float32(255)), factor)
    wanted = np.moveaxis(np.asarray(small), 2, 0)
    assert np.abs(ours.numpy()[0] * 255 - wanted).max() <= 1.001  # it rounds twice
    large = np.moveaxis(np.asarray(small.resize((36, 48), Image.Resampling.BICUBIC)), 2, 0)
    again = sr.enlarge(backend.asarray(wanted[None] / np.float32(255)), factor)
    assert np.abs(again.numpy()[0] * 255 - large).max() <= 1.5


def test_psnr_of_bicubic_interpolation(backend):
    torch = pytest.importorskip("torch")
    target = np.stack([picture(24, 24, seed) for seed in (0, 1)]) / np.float32(255)
    metric = sr.BicubicPSNR(2)
    metric.update(backend.asarray(np.zeros_like(target)), backend.asarray(target))
    resize = torch.nn.functional.interpolate
    settings = {"mode": "bicubic", "antialias": True, "align_corners": False}
    small = resize(torch.tensor(target), (12, 12), **settings).clamp(0, 1)
    large = resize((small * 255).round() / 255, (24, 24), **settings).clamp(0, 1)
    errors = ((large.numpy() - target).astype(float) ** 2).mean(axis=(1, 2, 3))
    assert metric.compute() == pytest.approx(np.mean(-10 * np.log10(errors)), abs=1e-3)


# -- the task -------------------------------------------------------------------------------------


def test_batches_and_results():
    task = tasks.SuperResolution.of_data(splits(), upscale=3)
    assert task.input_shape == (3, 8, 8)
    x, y = task.transform("flip")(*splits().train[:5])
    assert (x.shape, y.shape) == ((5, 3, 8, 8), (5, 3, 24, 24))
    assert (x.dtype, y.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(x, sr.shrink(y, 3).numpy(), atol=1e-6)  # of the augmented picture
    values = {"psnr": 29.306, "psnr_bicubic": 28.6, "ssim": 0.87}
    assert task.result(values, 4) == "PSNR 29.31 dB (bicubic 28.60 dB), SSIM 0.8700"
    again = tasks.from_settings(task.settings())
    assert again.settings() == task.settings()
    shown = task.show(splits().train[0][0], x[0], y[0], y[0] + 2)
    assert {name: image.shape for name, image in shown.items()} == dict.fromkeys(
        ("Input", "Bicubic", "Prediction", "Target"), (3, 24, 24)
    )
    assert shown["Prediction"].min() == 255  # clipped


def test_predictions_are_clipped():
    loss = tasks.SuperResolution(upscale=2).create_loss()
    assert loss.prediction(np.array([-1.0, 0.25, 2.0])).numpy().tolist() == [0, 0.25, 1]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: tasks.SuperResolution(upscale=5), "upscale=5: expected one of 2, 3, 4"),
        (
            lambda: tasks.SuperResolution.of_data(splits(size=22), upscale=4),
            r"waves has 3×22×22 numbers per example.*divisible by upscale=4; pass --image-size 20",
        ),
        (
            lambda: tasks.SuperResolution.of_data(splits(size=6), upscale=3),
            r"at least 12×12 pixels.*upscale=3; pass --image-size 12",
        ),
        (
            lambda: tasks.SuperResolution.of_data(splits(), upscale=0),
            "upscale=0: expected",
        ),
        (
            lambda: tasks.SuperResolution.of_data(data.load("moons")),
            "moons has 2 numbers per example: super-resolution needs pictures",
        ),
        (lambda: tasks.SuperResolution().transform("mixup"), "no labels to mix"),
        (lambda: models.edsr_small(input_shape=(3, 8)), "edsr_small needs images"),
        (lambda: models.edsr_small(upscale_factor=0), "upscale_factor=0"),
        (lambda: models.edsr_small(blocks=0), "blocks=0"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


@pytest.mark.parametrize("loss", ["l1", "mse"])
def test_a_network_of_another_factor(loss):
    task = tasks.SuperResolution(input_shape=(3, 8, 8), upscale=3, loss=loss)
    trainer = xcnn.Trainer(models.edsr_small(channels=4), loss=task.create_loss())
    x = normal(1, 3, 8, 8, dtype="float32")
    text = r"output has shape \(1, 3, 16, 16\), expected \(1, 3, 24, 24\)"
    with pytest.raises(FileFormatError, match=text):
        task.predict(trainer, x)
    with pytest.raises(FileFormatError, match=text):
        trainer.evaluate(x, normal(1, 3, 24, 24, dtype="float32"))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_training_starts_from_bicubic_interpolation(factor):
    model = models.edsr_small(upscale_factor=factor, channels=4)
    x = normal(2, 3, 7, 5, dtype="float32") * 0.2 + 0.5
    found = tasks.SuperResolution(upscale=factor).create_loss().prediction(model(x))
    np.testing.assert_allclose(found.numpy(), sr.enlarge(x, factor).numpy(), atol=1e-6)


def test_large_pictures_are_predicted_in_tiles():
    xcnn.manual_seed(0)
    model = models.edsr_small(upscale_factor=2, channels=4, blocks=2).eval()
    model.tail[1].weight.data[...] = normal(3, 4, 3, 3)
    x = normal(1, 3, 300, 330, dtype="float32")
    shapes = []

    def predict(part):
        shapes.append(part.shape[2:])
        return model(part).numpy()

    tiled = sr.in_tiles(predict, x, 2)
    assert len(shapes) == 4
    assert max(map(max, shapes)) < 200
    np.testing.assert_allclose(tiled, model(x).numpy(), atol=1e-4)


# -- against PyTorch ------------------------------------------------------------------------------


def edsr_of_pytorch(torch, factor):
    """EDSR with 2 blocks of 8 channels, written with PyTorch."""
    from torch.nn import functional

    conv = lambda i, o: torch.nn.Conv2d(i, o, 3, padding=1)  # noqa: E731

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(conv(8, 8), torch.nn.ReLU(), conv(8, 8))

        def forward(self, x):
            return x + self.body(x) * 0.1

    class EDSR(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Sequential(conv(3, 8))
            self.body = torch.nn.Sequential(Block(), Block(), conv(8, 8))
            steps = []
            for step in (2, 2) if factor == 4 else (factor,):
                steps += [conv(8, 8 * step**2), torch.nn.PixelShuffle(step)]
            self.tail = torch.nn.Sequential(torch.nn.Sequential(*steps), conv(8, 3))

        def forward(self, x):
            size = [length * factor for length in x.shape[2:]]
            large = functional.interpolate(x, size, mode="bicubic", antialias=True)
            x = self.head(x)
            return large + self.tail(x + self.body(x))

    return EDSR()


@pytest.mark.parametrize(
    "factor",
    [2, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (3, 4))],
)
def test_training_equals_pytorch(factor):
    """20 steps of SGD from the same weights on the same batches: no sign of a small number."""
    torch = pytest.importorskip("torch")
    task = tasks.SuperResolution.of_data(splits(), "mse", upscale=factor)
    xcnn.manual_seed(0)
    model = models.edsr_small(
        upscale_factor=factor, channels=8, blocks=2, residual_scale=0.1, input_shape=(3, 8, 8)
    )
    peer = edsr_of_pytorch(torch, factor)
    peer.load_state_dict({k: torch.tensor(np.array(v)) for k, v in model.state_dict().items()})
    loader = data.DataLoader(splits().train, batch_size=4, transform=task.transform("none"))
    trainer = xcnn.Trainer(model, optim.SGD(model.parameters(), 0.5), loss=task.create_loss())
    algorithm = torch.optim.SGD(peer.parameters(), 0.5)
    batches = [batch for _ in range(7) for batch in loader][:20]
    ours, theirs = [], []
    for x, y in batches:
        ours.append(trainer.train_step(x, y).loss.item())
        algorithm.zero_grad()
        x, y = (torch.tensor(np.ascontiguousarray(a)) for a in (x, y))
        loss = torch.nn.functional.mse_loss(peer(x), y)
        loss.backward()
        algorithm.step()
        theirs.append(loss.item())
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)
    assert ours[-1] < ours[0]


# -- commands -------------------------------------------------------------------------------------


def test_commands(tmp_path, monkeypatch, capsys):
    """Train, evaluate and predict from the user's own pictures, and from the exported file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    for seed in range(5):
        np.save(tmp_path / "own" / f"{seed}.npy", picture(60, 70, seed))
    np.save("new.npy", picture(31, 46, 9))
    train = "train --task super-resolution --data own --image-size 24 --upscale 2 --epochs 1"
    assert cli.main([*train.split(), "--augment", "flip", "--out", "run"]) == 0
    assert "(bicubic " in capsys.readouterr().out
    assert cli.main(["evaluate", "run"]) == 0
    assert "PSNR " in capsys.readouterr().out
    assert cli.main(["predict", "run", "new.npy"]) == 0
    assert "92×62 pixels" in capsys.readouterr().out
    predicted = data.read_image("predictions/run/new.png", (3, None, None))
    assert predicted.shape == (3, 62, 92)
    pytest.importorskip("onnx")
    assert cli.main(["export", "run", "run.onnx", "--postprocess"]) == 0
    assert cli.main(["predict", "run.onnx", "new.npy", "--out", "other"]) == 0
    other = data.read_image("other/new.png", (3, None, None))
    assert np.abs(predicted.astype(int) - other).max() <= 1


def test_an_exported_network_takes_any_size(tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    task = tasks.SuperResolution(input_shape=(3, 8, 8), upscale=4)
    for name in task.networks:
        model = task.create_model(name).eval()
        last = list(model.parameters())[-2]
        last.data[...] = 0.05 * normal(*last.shape)
        exported = task.exported(model, postprocess=True)
        file = tmp_path / f"{name}.onnx"
        example = np.zeros((2, 3, 8, 8), np.float32)
        xcnn.onnx.export(exported.model, example, file, dynamic_size=exported.any_size)
        x = np.random.default_rng(0).random((1, 3, 13, 10), np.float32)
        session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (y,) = session.run(None, {"input": x})
        np.testing.assert_allclose(y, np.clip(model(x).numpy(), 0, 1), atol=1e-5)


def test_an_exported_network_that_needs_a_size(tmp_path):
    pytest.importorskip("onnx")
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    example = np.zeros((2, 3, 4, 4), np.float32)
    with pytest.raises(ExportError, match=r"with larger images: .* take images of any size"):
        xcnn.onnx.export(model, example, tmp_path / "model.onnx", dynamic_size=True)
    assert not (tmp_path / "model.onnx").exists()
