"""Autoencoders, the VAE and the DCGAN: networks, losses, tasks, against PyTorch and by hand."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import callbacks, cli, metrics, models, nn, optim, random, tasks
from xcnn.data import ArrayDataset, DataLoader, DataSplits
from xcnn.errors import ArgumentError, DataError
from xcnn.testing import gradcheck

from .conftest import assert_matches, normal

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 12), np.uint8)
SPLITS = DataSplits(
    name="noise",
    train=ArrayDataset(IMAGES, np.arange(40) % 3),
    test=ArrayDataset(IMAGES[:10], np.arange(10) % 3),
    classes=["a", "b", "c"],
    mean=(0.5,),
    std=(0.3,),
    kind="images",
    source="generated",
    image_shape=(1, 8, 12),
)
NAMES = ["autoencoder", "denoising", "vae", "gan"]


def made(name, **options):
    """A task of SPLITS, and a Trainer of its default network."""
    task = tasks.get(name).of_data(SPLITS, **options)
    xcnn.manual_seed(1)
    model = task.create_model(task.networks[0])
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    return task, xcnn.Trainer(model, optimizer, task.create_loss(), metrics=task.measured)


def loaders(task):
    train = DataLoader(SPLITS.train, 8, shuffle=True, transform=task.transform("flip"))
    return train, DataLoader(SPLITS.test, 8, transform=task.transform())


# -- targets -------------------------------------------------------------------------------


def test_the_target_is_the_augmented_picture():
    task = tasks.Autoencoder(input_shape=(1, 8, 12))
    x, y = next(iter(DataLoader(SPLITS.train, 40, transform=task.transform("flip"))))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, y)
    plain = (IMAGES / 255).astype("float32")
    is_flipped = [not np.allclose(a, b) for a, b in zip(y, plain, strict=True)]
    assert 5 < sum(is_flipped) < 35
    expected = np.where(np.reshape(is_flipped, (40, 1, 1, 1)), plain[..., ::-1], plain)
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_noise_is_drawn_anew_in_training_and_fixed_in_evaluation():
    task = tasks.Denoising(input_shape=(3, 64, 64), noise=0.1)
    grey = np.full((64, 3, 64, 64), 128, np.uint8), np.zeros(64, int)

    def epochs(augment):
        loader = DataLoader(grey, 64, transform=task.transform(augment))
        return [next(iter(loader)) for _ in range(2)]

    (x, y), (again, _) = epochs("none")
    np.testing.assert_allclose(y, 128 / 255, atol=1e-6)
    assert (x - y).std() == pytest.approx(0.1, rel=0.01)
    assert abs((x - y).mean()) < 1e-3
    assert np.abs(x - again).max() > 0.1
    np.testing.assert_array_equal(epochs("none")[0][0], x)  # of the same seed
    (x, _), (again, _) = epochs(None)
    np.testing.assert_array_equal(x, again)
    pixels = task.transform()(grey[0])  # to predict: no noise is added
    np.testing.assert_allclose(pixels, 128 / 255, atol=1e-6)
    strong = tasks.Denoising(input_shape=(3, 64, 64), noise=3).transform()(*grey)[0]
    assert (strong.min(), strong.max()) == (0, 1)


def of_size(n):
    x = xcnn.data.ArrayDataset(np.zeros((4, 3, n, n), np.uint8), np.zeros(4, int))
    return xcnn.data.DataSplits("own", x, x, [], (0.5,), (0.2,), "images", "", (3, n, n))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: tasks.Autoencoder().transform("flip,mixup"), "autoencoder has no labels to mix"),
        (lambda: tasks.Denoising(noise=-1), "noise=-1"),
        (lambda: tasks.VAE(beta=-1), "beta=-1"),
        (lambda: tasks.VAE(beta=float("inf")), "beta=inf"),
        (lambda: tasks.GAN(smoothing=2), "smoothing=2"),
        (lambda: tasks.VAE(code=3), "vae has no option 'code': it has latent, beta"),
        (lambda: tasks.GAN(input_shape=(1, 6, 8)).create_model("dcgan"), "divisible by 4"),
        (lambda: tasks.VAE.of_data(of_size(50)), r"own has 3×50×50 .* by 4; pass --image-size 48"),
        (lambda: tasks.GAN.of_data(of_size(2)), r"at least 4×4 pixels.*; pass --image-size 4$"),
        (lambda: tasks.VAE().create_loss()(xcnn.zeros(1), 0), "cannot be evaluated"),
        (lambda: random.seeded(-1).__enter__(), "seed=-1"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ArgumentError, match=text):
        call()


def test_a_folder_without_classes(tmp_path):
    image = pytest.importorskip("PIL.Image")
    with pytest.raises(DataError, match="is not a folder; expected one of images"):
        tasks.VAE.load_folder(tmp_path / "none")
    (tmp_path / "more").mkdir()
    for i in range(10):
        name = tmp_path / ("more" if i % 2 else "") / f"{i}.png"
        image.fromarray(np.full((9, 9), 20 * i, np.uint8)).save(name)
    splits = tasks.VAE.load_folder(tmp_path, size=(8, 8), channels=1, seed=0)
    assert (len(splits.train), len(splits.test), splits.classes) == (8, 2, [])
    found = [x[0, 0, 0] for part in (splits.train, splits.test) for x, _ in part]
    assert sorted(found) == list(range(0, 200, 20))
    task = tasks.VAE.of_data(splits)
    assert (task.input_shape, task.mean, task.std) == ((1, 8, 8), (0.0,), (1.0,))


# -- losses --------------------------------------------------------------------------------


@pytest.mark.parametrize("squared", [False, True])
def test_elbo(squared, backend):
    """A plain loop over examples and pixels, in float64."""
    logits, mean, logvar = normal(3, 2, 4), normal(3, 5, seed=1), normal(3, 5, seed=2)
    target = 1 / (1 + np.exp(-normal(3, 2, 4, seed=3)))
    reconstruction = kl = 0.0
    for n in range(3):
        for x, t in zip(logits[n].ravel(), target[n].ravel(), strict=True):
            p = 1 / (1 + math.exp(-x))
            cross = -t * math.log(p) - (1 - t) * math.log(1 - p)
            reconstruction += (p - t) ** 2 if squared else cross
        for m, v in zip(mean[n], logvar[n], strict=True):
            kl += (m * m + math.exp(v) - v - 1) / 2
    output = {"logits": logits, "mean": mean, "logvar": logvar}
    output = {k: xcnn.Tensor(backend.asarray(v)) for k, v in output.items()}
    loss, target = tasks.ELBOLoss(0.5, squared), backend.asarray(target)
    assert loss(output, target).item() == pytest.approx((reconstruction + 0.5 * kl) / 3)
    for name, expected in (("reconstruction", reconstruction), ("kl", kl)):
        metric = metrics.create(name, loss)
        for part in (slice(0, 2), slice(2, 3)):
            metric.update({k: v[part] for k, v in output.items()}, target[part])
        assert metric.compute() == pytest.approx(expected / 3)
    assert_matches(loss.prediction(output), 1 / (1 + np.exp(-logits)))
    arrays = [value.data for value in output.values()]
    assert gradcheck(lambda *v: loss(dict(zip(output, v, strict=True)), target), *arrays) < 1e-6


# -- networks ------------------------------------------------------------------------------


def test_vae_is_deterministic_in_evaluation(backend):
    model = models.vae(input_shape=(3, 8, 12), latent=4).to(backend)
    x = backend.asarray(normal(2, 3, 8, 12, dtype="float32"))
    assert not np.array_equal(model(x)["logits"].numpy(), model(x)["logits"].numpy())
    model.eval()
    state = random.get_state()
    one, two = model(x), model(x)
    assert random.get_state() == state
    for name in ("logits", "mean", "logvar", "expected"):
        np.testing.assert_array_equal(one[name].numpy(), two[name].numpy())
    assert_matches(model.reconstruction()(x), F.sigmoid(one["expected"]).numpy(), dtype="float32")
    assert model.sample(3).shape == (3, 3, 8, 12)


@pytest.mark.parametrize(("size", "small"), [((28, 28), 49), ((32, 48), 24), ((64, 64), 16)])
def test_sizes_of_dcgan(size, small):
    model = models.dcgan(input_shape=(3, *size), latent=5, width=2).eval()
    assert model.discriminator[-1].weight.shape[1] % small == 0
    pictures = model.sample(2)
    assert pictures.shape == (2, 3, *size)
    assert 0 <= pictures.data.min() < pictures.data.max() <= 1
    weights = np.concatenate([p.numpy().ravel() for n, p in model.named_parameters() if p.ndim > 1])
    assert weights.std() == pytest.approx(0.02, rel=0.05)


def test_each_part_of_dcgan_has_its_own_gradient(backend):
    """The sum of both losses gives each the gradient of its own, from one backward."""
    model = models.dcgan(input_shape=(1, 8, 8), latent=3, width=2).to(backend).to(dtype="float64")
    x, loss = backend.asarray(normal(4, 1, 8, 8)), tasks.GANLoss()
    state = random.get_state()
    loss(model(x), x).backward()
    together = {k: p.grad.numpy() for k, p in model.named_parameters()}
    for term, part in (("d_loss", "discriminator"), ("g_loss", "generator")):
        random.set_state(state)
        model.zero_grad()
        loss.terms(model(x), x)[term].backward()
        for name, parameter in model.named_parameters():
            if name.startswith(part):
                assert_matches(parameter.grad, together[name])
            else:
                assert parameter.grad is None
    assert all(p.requires_grad for p in model.parameters())


# -- beside PyTorch ------------------------------------------------------------------------


def torch_layers(torch, layers):
    """The layers of an xcnn Sequential in PyTorch, with the same weights."""
    new = []
    for layer in layers.children():
        named = layer._init_arguments
        kind = getattr(torch.nn, type(layer).__name__)
        new.append(kind(**{k: v for k, v in named.items() if k != "nonlinearity"}))
    theirs = torch.nn.Sequential(*new)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in layers.state_dict().items()})
    return theirs


def batches(model, size):
    """20 batches, each with the noise that the next forward pass of ``model`` draws."""
    for step in range(20):
        state = random.get_state()
        noise = xcnn.randn(size, model.latent).numpy()
        random.set_state(state)
        yield normal(size, 1, 8, 12, seed=step, dtype="float32"), noise


def test_20_steps_of_vae_equal_pytorch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # the arrays are small
    T = torch.nn.functional
    xcnn.manual_seed(0)
    ours = models.vae(input_shape=(1, 8, 12), latent=4)
    parts = {"encoder": ours.encoder, "decoder": ours.decoder}
    parts["heads"] = nn.Sequential(ours.mean, ours.logvar)
    theirs = torch.nn.ModuleDict({k: torch_layers(torch, v) for k, v in parts.items()})
    loss, step = tasks.ELBOLoss(), optim.Adam(ours.parameters(), 1e-3)
    peer_step = torch.optim.Adam(theirs.parameters(), 1e-3)
    for x, noise in batches(ours, 16):
        x = 1 / (1 + np.exp(-x))
        step.zero_grad()
        mine = loss(ours(x), x)
        mine.backward()
        step.step()
        peer_step.zero_grad()
        features, target = theirs["encoder"](torch.tensor(x)), torch.tensor(x)
        mean, logvar = (head(features) for head in theirs["heads"])
        logits = theirs["decoder"](mean + (0.5 * logvar).exp() * torch.tensor(noise))
        cross = T.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        kl = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum()
        peer = (cross + kl) / 16
        peer.backward()
        peer_step.step()
        assert mine.item() == pytest.approx(peer.item(), rel=1e-5)


def test_20_steps_of_dcgan_equal_pytorch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # the arrays are small
    cross = torch.nn.functional.binary_cross_entropy_with_logits
    xcnn.manual_seed(0)
    ours = models.dcgan(input_shape=(1, 8, 12), latent=4, width=8)
    generator = torch_layers(torch, ours.generator)
    discriminator = torch_layers(torch, ours.discriminator)
    loss, step = tasks.GANLoss(0.1), optim.Adam(ours.parameters(), 2e-4, betas=(0.5, 0.999))
    steps = [
        torch.optim.Adam(part.parameters(), 2e-4, betas=(0.5, 0.999))
        for part in (generator, discriminator)
    ]
    for x, noise in batches(ours, 16):
        step.zero_grad()
        mine = loss.terms(ours(x), x)
        (mine["d_loss"] + mine["g_loss"]).backward()
        step.step()
        fake = generator(torch.tensor(noise))
        real, ones = discriminator(torch.tensor(x)), torch.ones(16, 1)
        d_loss = cross(real, 0.9 * ones) + cross(discriminator(fake.detach()), 0 * ones)
        g_loss = cross(discriminator(fake), ones)
        wanted = list(generator.parameters()), list(discriminator.parameters())
        for parameters, value in zip(wanted, (g_loss, d_loss), strict=True):
            gradients = torch.autograd.grad(value, parameters, retain_graph=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
        for peer in steps:
            peer.step()
        assert mine["d_loss"].item() == pytest.approx(d_loss.item(), rel=1e-4)
        assert mine["g_loss"].item() == pytest.approx(g_loss.item(), rel=1e-4)
    ours.eval(), generator.eval()
    expected = generator(torch.tensor(noise)).detach().numpy()
    np.testing.assert_allclose(ours.generator(noise).data, expected, atol=1e-3)


# -- tasks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_training(name):
    task, trainer = made(name)
    train, test = loaders(task)
    history = trainer.fit(train, epochs=3, validation=test, progress=False)
    if name != "gan":
        assert history[-1].val_loss < history[0].val_loss
    values = trainer.evaluate(test)
    assert values == trainer.evaluate(test)  # whatever was drawn between
    assert values["loss"] == pytest.approx(history[-1].val_loss, rel=1e-6)
    numbers = [float(n) for n in re.findall(r"[\d.]+", task.result(values, 10))]
    assert pytest.approx(values[task.measured[0]], abs=0.006) in numbers
    found = [task.predict_one(trainer, pixels) for pixels in IMAGES[:2]]
    x, y = next(iter(test))
    assert len(task.truth(y)) == len(x)
    assert task.describe(found[0])
    if name == "gan":
        np.testing.assert_allclose(found, trainer.predict(x)[:2], rtol=1e-5)
        assert task.draw(IMAGES[0], found[0]) is None
        assert list(task.show(IMAGES[0], x[0], [1.0], found[0])) == ["Picture"]
    else:
        shown = task.show(IMAGES[0], x[0], task.truth(y)[0], found[0])
        drawn = task.draw(IMAGES[0], found[0])
        last = list(shown.values())[-1]
        np.testing.assert_array_equal(last, np.rint(255 * found[0]))
        both = last if name == "denoising" else np.concatenate([IMAGES[0], last], 2)
        np.testing.assert_array_equal(drawn, both)
    samples = task.samples(trainer)
    if name in ("vae", "gan"):
        assert (samples.shape, samples.dtype) == ((1, 80, 112), np.uint8)
        np.testing.assert_array_equal(samples, task.samples(trainer))
        with random.seeded(0):
            first = trainer.model.eval().sample(64).numpy()[9, 0]
        np.testing.assert_array_equal(samples[0, 12:20, 16:28], np.rint(255 * first))
    else:
        assert samples is None
    assert repr(tasks.from_settings(task.settings())) == repr(task)


class Interrupted(Exception):
    """Stands for a crash."""


@pytest.mark.parametrize("name", ["denoising", "vae", "gan"])
def test_resuming_after_a_crash(name, tmp_path):
    """A training that is resumed in the middle of an epoch ends with the same bits."""

    def run(folder=None, crash=None, resume=None):
        task, trainer = made(name)
        train, test = loaders(task)
        used = []
        if folder:
            used.append(callbacks.ModelCheckpoint(folder, every="1step"))
        if crash:

            def stop(trainer, step):
                if trainer.steps == crash:
                    raise Interrupted

            used.append(Stop(stop))
        trainer.fit(train, epochs=3, validation=test, callbacks=used, resume=resume, progress=False)
        return trainer

    class Stop(callbacks.Callback):
        def __init__(self, function):
            self.on_batch_end = function

    whole = run()
    with pytest.raises(Interrupted):
        run(tmp_path / "run", crash=7)
    resumed = run(tmp_path / "run", resume=tmp_path / "run")
    assert resumed.resumed_from is not None
    for key, array in whole.model.state_dict().items():
        assert array.tobytes() == resumed.model.state_dict()[key].tobytes(), key
    rows = [[{**epoch.row(), "seconds": 0} for epoch in t.history] for t in (whole, resumed)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("name", ["autoencoder", "vae", "gan"])
def test_exported_networks_in_onnxruntime(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    task, trainer = made(name)
    trainer.fit(loaders(task)[0], epochs=1, progress=False)
    found = task.exported(trainer.model)
    x = normal(3, *(found.input_shape or task.input_shape), dtype="float32")
    xcnn.onnx.export(found.model, x, tmp_path / "model.onnx", output_names=found.outputs)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    got = session.run(None, {"input": x})[0]
    model = trainer.model.eval()
    expected = model.generator(x).numpy() if name == "gan" else trainer.predict(x)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ArgumentError, match="no post-processing"):
        task.exported(trainer.model, postprocess=True)


def test_a_grid():
    pictures = np.arange(1, 8, dtype=np.uint8).reshape(7, 1, 1, 1).repeat(3, 2)
    found = tasks.generative.grid(pictures)
    assert found.shape == (1, 15, 9)
    np.testing.assert_array_equal(found[0, 2::5, 2::3], [[1, 2, 3], [4, 5, 6], [7, 128, 128]])


def test_sample_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train = ["train", "--limit", "16", "--epochs", "1", "--quiet"]
    assert cli.main([*train, "vae", "--out", "run"]) == 0
    assert cli.main(["sample", "run", "--count", "5", "--seed", "3"]) == 0
    assert "samples.png: 5 pictures, 102×68 pixels in all" in capsys.readouterr().out
    found = xcnn.data.read_image("samples.png", (1, None, None))
    model = xcnn.load("run/model.safetensors").eval()
    with random.seeded(3):
        expected = tasks.as_pixels(model.sample(5).numpy())
    np.testing.assert_array_equal(found[0, 2:34, 2:34], expected[0, 0])
    np.testing.assert_array_equal(found[0, 36:68, 36:68], expected[4, 0])
    assert cli.main([*train, "--out", "other"]) == 0
    for line, text in (
        ("other", "other was trained for classification, which draws no new pictures"),
        ("run.onnx", "run.onnx is a file: expected the run"),
        ("run --out x.jpg", "--out x.jpg: expected a name that ends in .png"),
        ("run --count 10001", "--count 10001: expected at most 10,000"),
    ):
        assert cli.main(["sample", *line.split()]) == 2
        assert text in capsys.readouterr().err


def test_commands_of_a_gan(tmp_path, monkeypatch, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    line = "train dcgan --limit 16 --epochs 1 --quiet --out run --best val_g_loss"
    assert cli.main(line.split()) == 0
    config = json.loads(Path("run/config.json").read_text(encoding="utf-8"))
    chosen = [config[name] for name in ("task", "lr", "betas", "schedule", "batch_size")]
    assert chosen == ["gan", 2e-4, [0.5, 0.999], "constant", 32]
    Path("one.png").write_bytes(xcnn.data.encode_image(IMAGES[0]))
    assert cli.main(["predict", "run", "one.png"]) == 0
    assert re.search(r"one\.png  real \d+\.\d\d%", capsys.readouterr().out)
    assert cli.main(["export", "run", "generator.onnx"]) == 0
    assert "input: float32 (batch, 100)\n" in capsys.readouterr().out
    noise = normal(3, 100, dtype="float32")
    session = onnxruntime.InferenceSession("generator.onnx")
    got = session.run(None, {"input": noise})[0]
    model = xcnn.load("run/model.safetensors")
    np.testing.assert_allclose(got, model.generator(noise).numpy(), rtol=1e-4, atol=1e-5)
