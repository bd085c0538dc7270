"""Segmentation: networks against torchvision, generated shapes, folders of masks, the task."""

import re

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import data, init, models, tasks
from xcnn.cli import main
from xcnn.data import sources
from xcnn.errors import ArgumentError, DataError

from .conftest import normal
from .strict import forbid_float64

# -- networks -----------------------------------------------------------------------------------

TORCHVISION = [
    "deeplabv3_resnet50",
    pytest.param("deeplabv3_resnet101", marks=pytest.mark.exhaustive),
    pytest.param("fcn_resnet50", marks=pytest.mark.exhaustive),
    "fcn_resnet101",
]


@pytest.fixture
def torch():
    """On one thread: many small steps take long on a busy machine otherwise."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


@pytest.fixture
def torchvision(torch):
    from .torchvision_stub import torchvision

    return torchvision


def shake(model):
    from .torchvision_stub import shake

    shake(model)


def shapes_of(model):
    return {n: tuple(t.shape) for n, t in (*model.named_parameters(), *model.named_buffers())}


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("aux_loss", [False, True])
def test_weights_have_the_names_and_shapes_of_torchvision(torch, torchvision, name, aux_loss):
    with torch.device("meta"):
        make = getattr(torchvision.models.segmentation, name)
        theirs = make(weights=None, weights_backbone=None, aux_loss=aux_loss)
    with init.skipped():
        ours = models.create(name, aux_loss=aux_loss)
    assert shapes_of(ours) == shapes_of(theirs)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


def pair(torch, torchvision, name, block, path):
    """A small network of each library with the same weights, in float64 and without dropout."""
    safetensors = pytest.importorskip("safetensors.torch")
    from torchvision.models import _utils, resnet, segmentation

    torch.manual_seed(0)
    kind = resnet.Bottleneck if block == "bottleneck" else resnet.BasicBlock
    backbone = resnet.ResNet(kind, [1, 1, 2, 2])
    for stage, before in ((backbone.layer3, 1), (backbone.layer4, 2)):
        for layer_name, layer in stage.named_modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.stride = (1, 1)
                if layer.kernel_size == (3, 3):  # torchvision has no dilated BasicBlock
                    dilation = before if layer_name.startswith("0.") else 2 * before
                    layer.dilation = layer.padding = (dilation, dilation)
    getter = _utils.IntermediateLayerGetter(backbone, {"layer4": "out", "layer3": "aux"})
    channels, module = 512 * kind.expansion, getattr(segmentation, name)
    head, model = {"fcn": ("FCNHead", "FCN"), "deeplabv3": ("DeepLabHead", "DeepLabV3")}[name]
    theirs = getattr(module, model)(
        getter, getattr(module, head)(channels, 4), segmentation.fcn.FCNHead(channels // 2, 4)
    )
    shake(theirs)
    ours = models.PARTS["SegmentationNetwork"](name, block, (1, 1, 2, 2), 3, 4, True)
    safetensors.save_file(theirs.state_dict(), path)
    xcnn.load(path, ours)
    for module in (*theirs.modules(), *ours.modules()):
        if type(module).__name__ == "Dropout":
            module.p = 0.0
    return theirs.double(), ours.to(dtype="float64")


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("deeplabv3", "basic"),
        pytest.param("fcn", "bottleneck", marks=pytest.mark.exhaustive),
        pytest.param("deeplabv3", "bottleneck", marks=pytest.mark.exhaustive),
    ],
)
def test_outputs_and_gradients_of_torchvision(torch, torchvision, name, block, tmp_path):
    theirs, ours = pair(torch, torchvision, name, block, tmp_path / "weights.safetensors")
    x = normal(2, 3, 17, 24)
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x))["out"]
    np.testing.assert_allclose(ours.eval()(x).data, expected, atol=1e-9)
    expected, found = theirs.train()(torch.tensor(x)), ours.train()(x)
    assert list(found) == ["out", "aux"]
    labels = np.random.default_rng(0).integers(0, 4, (2, 17, 24))
    labels[0, :5] = 255
    ce = torch.nn.functional.cross_entropy
    truth = torch.tensor(labels)
    loss = ce(expected["out"], truth, ignore_index=255)
    (loss + 0.5 * ce(expected["aux"], truth, ignore_index=255)).backward()
    own = F.cross_entropy(found["out"], labels, ignore_index=255)
    (own + F.cross_entropy(found["aux"], labels, ignore_index=255) * 0.5).backward()
    assert own.item() == pytest.approx(loss.item(), rel=1e-9)
    gradients = {n: p.grad for n, p in ours.named_parameters()}
    for key, parameter in theirs.named_parameters():
        reference = parameter.grad.numpy()
        tolerance = 1e-7 * max(1e-6, np.abs(reference).max())
        np.testing.assert_allclose(gradients[key], reference, rtol=0, atol=tolerance, err_msg=key)


def test_torchvisions_files_also_fit_without_the_auxiliary_head(tmp_path):
    xcnn.save(models.fcn_resnet18(3, (3, 32, 32), aux_loss=True), tmp_path / "w.safetensors")
    model = models.fcn_resnet18(3, (3, 32, 32), weights=tmp_path / "w.safetensors")
    assert model.aux_classifier is None
    assert model.train()(normal(2, 3, 33, 40, dtype="float32")).shape == (2, 3, 33, 40)


# -- generated shapes ---------------------------------------------------------------------------


def test_shapes_cover_equal_areas_and_masks_follow_the_pictures():
    x, y = sources.generated.shapes(300, seed=3)
    assert (x.shape, x.dtype, y.shape, y.dtype) == (
        (300, 3, 64, 64),
        "uint8",
        (300, 64, 64),
        "uint8",
    )
    share = np.bincount(y.ravel(), minlength=4) / y.size
    assert len(share) == 4
    assert share[1:].min() > 0.06
    assert share[1:].max() / share[1:].min() < 1.35
    edge = (y[:, :, 1:] != y[:, :, :-1]) & (y[:, :, 1:] * y[:, :, :-1] == 0)
    steps = np.abs(np.diff(x.astype(float), axis=3)).sum(axis=1)
    assert steps[edge].mean() > 3 * steps[y[:, :, 1:] == y[:, :, :-1]].mean()
    again = sources.generated.shapes(300, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip((x, y), again, strict=True))
    few = sources.generated.shapes(20, seed=3)[0]
    assert few.shape == (20, 3, 64, 64)


# -- folders of pictures and masks ----------------------------------------------------------------

COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]] + [[9, 9, 9]] * 252)


def write(root, name, mask, *, mode="P", size=None, picture=True, suffix="png"):
    """A picture whose red channel is 60 times the class, and its mask."""
    from PIL import Image

    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "masks").mkdir(exist_ok=True)
    mask = np.asarray(mask, np.uint8)
    if picture:
        pixels = np.stack([mask * 60, mask * 0, mask * 0 + 7], axis=2)
        Image.fromarray(pixels).save(root / "images" / f"{name}.{suffix}")
    stored = Image.fromarray(mask)
    if mode == "P":
        stored.putpalette(COLOURS.astype(np.uint8).tobytes())
    elif mode:
        stored = stored.convert(mode)
    if mode:
        stored = stored if size is None else stored.resize(size)
        stored.save(root / "masks" / f"{name}.png")


def squares(number, height=6, width=8):
    """Classes 0, 1 and 2 in stripes that differ from one picture to the next."""
    return (np.indices((height, width)).sum(axis=0) // 2 + number) % 3


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("PIL")
    for n in range(5):
        write(tmp_path / "photos", f"{n}", squares(n), mode="L" if n == 1 else "P")
    return tmp_path / "photos"


def test_a_folder_of_pictures_and_masks(folder):
    photos = data.MaskFolder(folder, size=(6, 8))
    assert photos.classes == ["0", "1", "2"]
    x, y = photos.batch(np.arange(5))
    assert (x.shape, y.shape, y.dtype) == ((5, 3, 6, 8), (5, 6, 8), "uint8")
    np.testing.assert_array_equal(y, [squares(n) for n in range(5)])
    np.testing.assert_array_equal(x[:, 0], y * 60)
    np.testing.assert_array_equal(photos.labels, y)
    one, mask = photos[3]
    np.testing.assert_array_equal(one[0], mask * 60)
    np.testing.assert_array_equal(photos.counts[2, :3], np.bincount(y[2].ravel()))


def test_masks_are_resized_with_their_pictures(folder):
    """As a whole, by the nearest pixel: half of 6×8 takes each second pixel, whatever its value."""
    _, y = data.MaskFolder(folder, size=(3, 4)).batch(np.arange(5))
    np.testing.assert_array_equal(y, [squares(n)[1::2, 1::2] for n in range(5)])
    _, y = data.MaskFolder(folder, size=(12, 8)).batch(np.arange(5))
    np.testing.assert_array_equal(y, [squares(n).repeat(2, axis=0) for n in range(5)])


def test_splits(folder, tmp_path):
    (folder / "classes.txt").write_text("ground\n red\ngreen\n", "utf-8")
    held_out = tasks.get("segmentation").load_folder(folder, size=8, channels=3, seed=0)
    assert (len(held_out.train), len(held_out.test)) == (4, 1)
    assert held_out.classes == ["ground", "red", "green"]
    assert held_out.image_shape == (3, 8, 8)
    for split, numbers in (("train", range(4)), ("val", [4])):
        for n in numbers:
            write(tmp_path / "split" / split, f"{n}", squares(n))
    made = data.load_masks(tmp_path / "split", size=8)
    assert (len(made.train), len(made.test), made.classes) == (4, 1, ["0", "1", "2"])
    _, mask = made.test[0]
    np.testing.assert_array_equal(mask, data.resize_mask(squares(4), (8, 8)))


def test_evaluating_on_another_folder(folder):
    """All its pictures, with the classes of the network, whichever its masks have."""
    task = tasks.create("segmentation", classes=["ground", "red", "green", "blue"])
    settings = {"size": 8, "channels": 3, "seed": 0, "on_error": "refuse"}
    assert [len(task.test_folder(folder, own, **settings)[1]) for own in (False, True)] == [5, 1]
    (folder / "classes.txt").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match="has the classes a, b, c, expected ground, red, green, bl"):
        task.test_folder(folder, False, **settings)


def test_the_layout_of_oxford_pets(folder):
    trimaps = folder / "annotations" / "trimaps"
    trimaps.mkdir(parents=True)
    for path in (folder / "masks").iterdir():
        from PIL import Image

        Image.fromarray(np.asarray(Image.open(path)) + 1).save(trimaps / path.name)
    (folder / "annotations" / "trainval.txt").write_text("# name\n0 1 1 1\n2 1 1 1\n4 1 2 1\n")
    (folder / "annotations" / "test.txt").write_text("1 1 1 1\n")
    pets = data.load_masks(folder, size=(6, 8))
    assert pets.classes == ["pet", "background", "border"]
    assert [len(pets.train), len(pets.test)] == [3, 1]
    np.testing.assert_array_equal(pets.train[1][1], squares(2))
    np.testing.assert_array_equal(pets.test[0][1], squares(1))


IGNORED = np.full((6, 8), 255)


@pytest.mark.parametrize(
    ("settings", "mask", "text"),
    [
        ({"size": (5, 6)}, squares(9), "9.png is a mask of 5×6 pixels, but .*9.png has 8×6"),
        ({}, squares(9) + 5, "9.png has the value 5: expected 0 to 2 for the 3 classes, or 255"),
        (
            {"mode": "RGB"},
            squares(9),
            "9.png has pixels of the kind RGB: expected a palette, or grey",
        ),
        ({"mode": None}, squares(9), r"images.9.png has no mask: expected .*masks.9.png"),
        ({}, IGNORED, "9.png ignores its picture: all pixels are 255"),
    ],
)
def test_wrong_masks(folder, settings, mask, text):
    """They are refused by name, or left out where that is asked for."""
    (folder / "classes.txt").write_text("a\nb\nc\n")
    write(folder, "9", mask, **settings)
    with pytest.raises(DataError, match=text):
        data.load_masks(folder)
    with pytest.warns(UserWarning, match=f"1 of 6 pictures are left out:\n.*{text}"):
        splits = data.load_masks(folder, on_error="skip")
    assert len(splits.train) + len(splits.test) == 5


def test_a_damaged_mask_and_a_damaged_picture(folder):
    (folder / "masks" / "0.png").write_bytes(b"no png")
    with pytest.raises(DataError, match=r"masks.0.png cannot be read as a mask: unknown format"):
        data.MaskFolder(folder)
    (folder / "images" / "1.png").write_bytes((folder / "images" / "1.png").read_bytes()[:80])
    write(folder, "0", squares(0), picture=False)
    with pytest.raises(DataError, match=r"1.png cannot be read .*--skip-unreadable"):
        data.MaskFolder(folder)[1]
    (folder / "masks" / "0.png").write_bytes(b"no png")
    with pytest.warns(UserWarning, match=r"2 of 5 pictures(.|\n)*images.1.png"):
        assert len(data.MaskFolder(folder, on_error="skip")) == 3


def test_photographs_that_are_stored_turned(folder):
    """Their masks are as the photograph is seen."""
    from PIL import Image

    image = Image.fromarray(np.zeros((8, 6, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(folder / "images" / "9.jpg", exif=exif)
    write(folder, "9", squares(9), picture=False)
    assert len(data.MaskFolder(folder)) == 6


def test_classes_that_do_not_occur(folder, tmp_path):
    (folder / "classes.txt").write_text("a\nb\nc\nd\n")
    with pytest.warns(UserWarning, match="no mask for training has the class d: it cannot be lear"):
        assert len(data.load_masks(folder).classes) == 4
    (folder / "classes.txt").write_text("a\na\n")
    with pytest.raises(DataError, match=r"classes.txt has 2 lines: expected 1 to 255 different"):
        data.load_masks(folder)
    for n in range(5):
        write(tmp_path / "binary", f"{n}", (squares(n) > 0) * 255, mode="L")
        write(tmp_path / "empty", f"{n}", squares(n) * 0)
    with pytest.raises(DataError, match="masks for training have the class '0' and 255, which is"):
        data.load_masks(tmp_path / "binary")
    with pytest.warns(UserWarning, match="all masks have only one class, '0'"):
        data.load_masks(tmp_path / "empty")


def test_folders_that_are_none(tmp_path):
    with pytest.raises(
        DataError, match=r"images is not a folder: expected pictures in images/ and"
    ):
        data.load_masks(tmp_path)
    write(tmp_path, "0", squares(0))
    with pytest.raises(
        DataError, match=r"0.2 of 1 pictures leaves none for training or testing: add"
    ):
        data.load_masks(tmp_path)


# -- the task -------------------------------------------------------------------------------------

CLASSES = ["background", "circle", "square", "triangle"]


@pytest.fixture(scope="module")
def task():
    return tasks.create(
        "segmentation", classes=CLASSES, input_shape=(3, 24, 20), mean=[0.5], std=[0.5]
    )


def test_labels_of_255_count_nowhere(task):
    """Neither in the losses nor in accuracy and IoU: all is as without those pixels."""
    logits = normal(2, 4, 6, 4, dtype="float32")
    y = np.random.default_rng(0).integers(0, 4, (2, 6, 4)).astype("uint8")
    kept, whole = logits[:, :, :3], y.copy()
    whole[:, 3:] = 255
    logits[:, :, 3:] *= 10
    for name in task.losses:
        loss = tasks.create("segmentation", classes=CLASSES, loss=name).create_loss()
        expected = loss(kept, y[:, :3])
        assert loss(logits, whole).item() == pytest.approx(expected.item(), rel=1e-5)
        iou = xcnn.metrics.create("iou", loss)
        iou.update(loss.prediction(logits), whole)
        right = kept.argmax(axis=1), y[:, :3]
        each = [
            ((right[0] == c) & (right[1] == c)).sum() / ((right[0] == c) | (right[1] == c)).sum()
            for c in range(4)
        ]
        assert iou.compute() == pytest.approx(np.mean(each))
    model = xcnn.nn.Identity()
    trainer = xcnn.Trainer(model, loss=task.create_loss(), metrics=task.measured)
    values = trainer.evaluate(logits, whole)
    assert values["accuracy"] == pytest.approx((right[0] == right[1]).mean())


def test_predictions_as_pictures_words_and_files(task, tmp_path):
    mask = np.zeros((24, 20), np.uint8)
    mask[4:12, 3:13] = 2
    mask[0, 0] = 255
    assert task.describe(mask) == "background 83.1%  square 16.7%"
    pixels = np.full((3, 24, 20), 200, np.uint8)
    picture = task.draw(pixels, mask)
    colour = task.palette()[2]
    for row, column in ((4, 5), (11, 5), (6, 3), (6, 12)):  # the contour
        np.testing.assert_array_equal(picture[:, row, column], colour)
    np.testing.assert_array_equal(picture[:, 6, 6], np.round(200 + 0.6 * (colour - 200.0)))
    assert (picture[:, [0, 20], [0, 9]] == 200).all()
    assert task.draw(pixels[:1], mask).shape == (3, 24, 20)
    ((ending, content),) = task.files(mask).items()
    assert ending == "_mask.png"
    (tmp_path / "m.png").write_bytes(content)
    np.testing.assert_array_equal(data.read_mask(tmp_path / "m.png"), mask)
    assert len({tuple(c) for c in task.palette()[:40].tolist()}) == 40


def test_a_prediction_has_the_size_of_its_picture(task, tmp_path):
    pytest.importorskip("PIL")
    write(tmp_path, "0", squares(0, 45, 61), suffix="jpg")
    pixels = task.read(tmp_path / "images" / "0.jpg")
    assert pixels.shape == (3, 45, 61)
    trainer = xcnn.Trainer(task.create_model("unet_light"), loss=task.create_loss())
    mask = task.predict_one(trainer, pixels)
    assert (mask.shape, mask.dtype) == ((45, 61), "uint8")


def test_commands(folder, tmp_path, monkeypatch, capsys):
    """Train on a folder, predict in the pictures' own size, export; the file predicts the same."""
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)

    def run(line):
        assert main([*line.split(), "--device", "cpu"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    out = run("train unet_light --data photos/ --image-size 17 --epochs 1 --out run --quiet")
    assert re.search(r"test mIoU 0\.\d{3}, pixel accuracy \d+\.\d% after 1 epoch", out)
    said = run("predict run photos/images --out found")
    mask = data.read_mask("found/0_mask.png")
    assert mask.shape == (6, 8)
    share = np.bincount(mask.ravel(), minlength=3).max() / mask.size
    assert f"{share:.1%}" in said.splitlines()[0]
    assert data.read_image("found/0.png", (3, None, None)).shape == (3, 6, 8)
    assert main(["export", "run", "run.onnx", "--postprocess"]) == 0
    assert "classes: the class of each pixel" in capsys.readouterr().out
    assert run("predict run.onnx photos/images --out again") == said.replace("found", "again")
    for n in range(5):
        again = data.read_mask(f"again/{n}_mask.png")
        np.testing.assert_array_equal(again, data.read_mask(f"found/{n}_mask.png"))


@pytest.mark.parametrize(
    "name", ["unet_light", pytest.param("fcn_resnet18", marks=pytest.mark.exhaustive)]
)
def test_onnx_gives_the_same(task, tmp_path, name):
    runtime = pytest.importorskip("onnxruntime")
    xcnn.manual_seed(0)
    model = task.create_model(name).eval()
    x = normal(2, 3, 24, 20, dtype="float32")
    for postprocess in (False, True):
        found = task.exported(model, postprocess)
        xcnn.onnx.export(found.model, x[:1], tmp_path / "m.onnx", output_names=found.outputs)
        session = runtime.InferenceSession(tmp_path / "m.onnx")
        (output,) = session.run(None, {session.get_inputs()[0].name: x})
        expected = model(x).numpy()
        if postprocess:
            np.testing.assert_array_equal(output, expected.argmax(axis=1))
        else:
            np.testing.assert_allclose(output, expected, atol=1e-4)
    with pytest.raises(ArgumentError, match="loss='mse'"):
        tasks.create("segmentation", classes=CLASSES, loss="mse")


class Twin:
    """U-Net of PyTorch functions, in training, with the weights of xcnn's by name."""

    def __init__(self, torch, state):
        self.f = torch.nn.functional
        self.concat = torch.cat
        self.state = {
            name: torch.tensor(array, requires_grad="running" not in name)
            for name, array in state.items()
            if array.dtype.kind == "f"
        }

    def double(self, x, name):
        for i in (0, 3):
            weights = [self.state[f"{name}.{i + 1}.{k}"] for k in ("weight", "bias")]
            x = self.f.conv2d(x, self.state[f"{name}.{i}.weight"], padding=1)
            x = self.f.relu(self.f.batch_norm(x, None, None, *weights, training=True))
        return x

    def __call__(self, x, depth=3):
        skips = [x := self.double(x, "down.0")]
        for i in range(1, depth + 1):
            skips.append(x := self.double(self.f.max_pool2d(x, 2), f"down.{i}"))
        for i, same in enumerate(skips[-2::-1]):
            up = [self.state[f"up.{i}.{k}"] for k in ("weight", "bias")]
            x = self.concat([same, self.f.conv_transpose2d(x, *up, stride=2)], 1)
            x = self.double(x, f"merge.{i}")
        return self.f.conv2d(x, self.state["head.weight"], self.state["head.bias"])


def test_twenty_steps_as_in_pytorch(torch):
    """The light U-Net, thinner, from the same weights: cross-entropy plus Dice on shapes."""
    xcnn.manual_seed(0)
    task = tasks.create("segmentation", classes=CLASSES, loss="cross_entropy_dice")
    model = models.unet_light(4, (3, 16, 16), width=4).to(dtype="float64").train()
    x, y = sources.generated.shapes(20 * 2, size=16)
    x, y = (x / 255 - 0.5).reshape(20, 2, 3, 16, 16), y.reshape(20, 2, 16, 16)
    y[:, :, :2] = 255
    twin = Twin(torch, model.state_dict())
    trained = [t for t in twin.state.values() if t.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.003)
    trainer = xcnn.Trainer(model, xcnn.optim.Adam(model.parameters(), lr=0.003), task.create_loss())
    for pixels, mask in zip(x, y, strict=True):
        step = trainer.train_step(pixels, mask)
        logits, truth = twin(torch.tensor(pixels)), torch.tensor(mask.astype("int64"))
        kept = (truth != 255)[:, None]
        p = torch.softmax(logits, 1) * kept
        one_hot = torch.nn.functional.one_hot(truth * kept[:, 0], 4).permute(0, 3, 1, 2) * kept
        axes = (2, 3)
        dice = (2 * (p * one_hot).sum(axes) + 1) / (p.sum(axes) + one_hot.sum(axes) + 1)
        loss = torch.nn.functional.cross_entropy(logits, truth, ignore_index=255) + 1 - dice.mean()
        assert step.loss.item() == pytest.approx(loss.item(), rel=1e-7)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_the_mean_loss_does_not_depend_on_the_batches(backend):
    """Nor does it compute in float64."""
    x = normal(5, 3, 6, 8, dtype="float32")
    y = np.stack([squares(n) for n in range(5)]).astype("uint8")
    y[1, :4] = y[3, :, 2:] = 255
    for name in ("cross_entropy_dice", "cross_entropy", "softmax_focal"):
        loss = tasks.create("segmentation", classes=["a", "b", "c"], loss=name).create_loss()
        means = []
        for size in (1, 2, 5):
            total = divisor = 0.0
            for start in range(0, 5, size):
                given = [backend.asarray(a[start : start + size]) for a in (x, y)]
                output = xcnn.Tensor(given[0])
                with forbid_float64():
                    terms = loss.total(loss(output, given[1]), output, given[1])
                total, divisor = total + float(terms[0]), divisor + float(terms[1])
            means.append(total / divisor)
        assert means == pytest.approx([means[0]] * 3, rel=1e-5)


def test_two_pictures_of_one_name_and_pictures_in_both_lists(folder):
    write(folder, "3", squares(3), suffix="bmp")
    with pytest.raises(DataError, match=r"3\.bmp and .*3\.png have one name"):
        data.load_masks(folder)
    (folder / "images" / "3.bmp").unlink()
    (folder / "masks").rename(folder / "trimaps")
    (folder / "annotations").mkdir()
    (folder / "trimaps").rename(folder / "annotations" / "trimaps")
    for number in range(5):
        write(folder, f"{number}", squares(number) + 1)
        (folder / "masks" / f"{number}.png").rename(folder / f"annotations/trimaps/{number}.png")
    for name in ("trainval", "test"):
        (folder / "annotations" / f"{name}.txt").write_text("0\n1\n2\n")
    with pytest.raises(DataError, match=r"0\.png is listed twice"):
        data.load_masks(folder)


def test_classes_weigh_by_their_pixels(folder):
    """Also those of a folder, whose masks are then all read; the Dice loss takes no weights."""
    photos = data.MaskFolder(folder, size=(6, 8))
    model = models.unet_light(3, (3, 8, 8), width=2, depth=1)
    for name in ("cross_entropy", "softmax_focal"):
        loss = tasks.create("segmentation", classes=photos.classes, loss=name).create_loss()
        trainer = xcnn.Trainer(model, "sgd", loss)
        loader = data.DataLoader(photos, 5, transform=data.Normalize([0.5] * 3, [0.5] * 3, 255))
        trainer.fit(loader, class_weight="balanced", progress=False)
        counts = photos.counts[:, :3].sum(axis=0)
        np.testing.assert_allclose(loss.weight.data, counts.sum() / (3 * counts), rtol=1e-6)
    trainer = xcnn.Trainer(model, "sgd", xcnn.nn.DiceLoss(ignore_index=255))
    with pytest.raises(ArgumentError, match="class_weight needs a loss of class indices"):
        trainer.fit(photos, class_weight="balanced")
