"""Keypoints: heatmaps, their peaks, the metric and the task."""

import json

import numpy as np
import pytest

import xcnn
from xcnn import metrics, nn, tasks
from xcnn.cli import main
from xcnn.data import DataLoader, load
from xcnn.errors import ArgumentError, DataError, ShapeError
from xcnn.tasks.keypoints import HeatmapLoss, Peaks
from xcnn.testing import assert_close

from .conftest import normal
from .strict import forbid_float64

POINTS = np.float32([[[3, 2, 2], [6.5, 5.25, 1], [0, 0, 0]], [[9, 9, 2], [1, 0, 0], [4, 8, 2]]])


def bells(points, height, width, sigma):
    """Gaussians by loops, (N, K, H, W) in float64."""
    result = np.zeros((*points.shape[:2], height, width))
    for n, k, i, j in np.ndindex(result.shape):
        x, y = points[n, k, :2].astype(float)
        result[n, k, i, j] = np.exp(-((i - y) ** 2 + (j - x) ** 2) / (2 * sigma**2))
    return result


@pytest.mark.parametrize("with_visibility", [True, False])
def test_the_loss_of_heatmaps(backend, with_visibility):
    output, y = (
        normal(2, 3, 10, 12, dtype="float32"),
        POINTS if with_visibility else POINTS[..., :2],
    )
    squares = (output - bells(POINTS, 10, 12, 2.0)) ** 2
    seen = POINTS[..., 2] > 0 if with_visibility else np.ones((2, 3), bool)
    loss, sent = HeatmapLoss(2.0), xcnn.Tensor(backend.asarray(output), requires_grad=True)
    with forbid_float64():
        found = loss(sent, backend.asarray(y))
    assert_close(found.numpy(), np.float32(squares[seen].mean()), atol=1e-5)
    assert int(loss.divisor(sent, backend.asarray(y))) == seen.sum()
    found.backward()
    slope = 2 * (output - bells(POINTS, 10, 12, 2.0)) * seen[..., None, None] / (seen.sum() * 120)
    assert_close(sent.grad.numpy(), slope.astype("float32"), atol=1e-7)


def test_no_visible_point_is_no_loss(backend):
    y = np.full((2, 3, 3), np.nan, "float32")
    y[..., 2] = 0
    loss = HeatmapLoss()(backend.asarray(normal(2, 3, 5, 5, dtype="float32")), backend.asarray(y))
    assert loss.numpy() == 0


def test_peaks(backend):
    """Within a quarter pixel, as the neighbours tell on which side the maximum is."""
    maps = bells(POINTS, 11, 12, 1.5).astype("float32")
    found = backend.to_host(Peaks()(backend.asarray(maps)).data)
    assert abs(found[..., :2] - POINTS[..., :2]).max() <= 0.251
    assert_close(found[0, 1], np.float32([6.25, 5.25, maps[0, 1].max()]))
    assert (found[..., 2] == maps.max(axis=(2, 3))).all()


def test_peaks_at_the_edges_stay(backend):
    maps = np.zeros((1, 3, 5, 6), "float32")
    maps[0, 0, 0, 0] = maps[0, 1, 4, 5] = maps[0, 2, 0, 2] = 1
    maps[0, 2, 0, 3] = 0.5
    found = backend.to_host(Peaks()(backend.asarray(maps)).data)
    assert found[0].tolist() == [[0, 0, 1], [5, 4, 1], [2.25, 0, 1]]


def test_heatmaps_of_other_keypoints(backend):
    maps = backend.asarray(normal(2, 3, 5, 5, dtype="float32"))
    for shape in ((2, 1, 3), (1, 3, 3), (2, 3)):
        with pytest.raises(ShapeError, match="for the same N and K"):
            HeatmapLoss()(maps, backend.asarray(np.ones(shape, "float32")))


def test_pck(backend):
    """By hand: the box of the first example is 10 wide, of the second a point."""
    y = np.float32([[[0, 0, 2], [10, 4, 1], [50, 50, 0]], [[3, 3, 2], [9, 9, 0], [9, 9, 0]]])
    x = y.copy()
    x[0, 0, 0] = 0.9  # a tenth of 10 is right
    x[0, 1, 1] = 5.2  # wrong
    x[1, 0] = 3.05, 3.05, 0.4
    x[1, 1] = 0  # not visible
    for sizes in ([2], [1, 1]):
        metric, start = metrics.create("pck", HeatmapLoss()), 0
        for size in sizes:
            part = slice(start, start := start + size)
            metric.update(backend.asarray(x[part]), backend.asarray(y[part]))
        assert metric.compute() == pytest.approx(2 / 3)
    assert metrics.PCK(0.5)._state == {}
    metric = metrics.PCK(0.5)
    metric.update(x, y)
    assert metric.compute() == 1
    metric.update(x * np.nan, y)
    assert np.isnan(metric.compute())
    with pytest.raises(ShapeError, match="metric 'pck'"):
        metric.update(x[:, :2], y)
    with pytest.raises(ArgumentError, match="those of MSELoss are values"):
        metrics.create("pck", nn.MSELoss())


def test_against_pytorch():
    """The same weights and batches: losses of 20 steps of Adam."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # the arrays are small
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 7, 3, padding=1))
    layers = (
        torch.nn.Conv2d(1, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 7, 3, padding=1),
    )
    peer = torch.nn.Sequential(*layers)
    peer.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in model.state_dict().items()})
    dataset = load("stick-figures", limit=80)
    task = tasks.get("keypoints").of_data(dataset)
    trainer = xcnn.Trainer(
        model, xcnn.optim.Adam(model.parameters(), 1e-2), loss=task.create_loss()
    )
    optimizer = torch.optim.Adam(peer.parameters(), 1e-2)
    loader = DataLoader(dataset.train, 4, transform=task.transform("flip,rotate"), seed=1)
    for x, y in loader:
        ours = float(trainer.train_step(x, y).loss.data)
        truth = torch.from_numpy(bells(y, 40, 40, 1.5).astype("float32"))
        seen = torch.from_numpy(y[..., 2] > 0)
        loss = (peer(torch.from_numpy(np.ascontiguousarray(x))) - truth)[seen].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert ours == pytest.approx(loss.item(), rel=2e-3)


def test_a_folder_with_keypoints(tmp_path):
    """White dots, in pictures of another size and shape than the network's, lead to the points."""
    lines = ["file,nose x,nose y,tail_x,tail_y"]
    for n, (height, width) in enumerate([(40, 60), (48, 24), (64, 64)] * 3):
        pixels = np.zeros((1, height, width), "uint8")
        x, y = width // 2 + 3, height // 2 - 5
        pixels[0, y - 1 : y + 2, x - 1 : x + 2] = 255
        (tmp_path / f"{n}.png").write_bytes(xcnn.data.encode_image(pixels))
        lines.append(f"{n}.png,{x},{y},-1,-1")
    (tmp_path / "keypoints.csv").write_text("\n".join(lines))
    found = tasks.get("keypoints").load_folder(tmp_path, size=(32, 32), channels=1)
    assert found.classes == ["nose", "tail"]
    assert (len(found.train), len(found.test)) == (7, 2)
    for part in (found.train, found.test):
        x, y = part.batch(np.arange(len(part)))
        assert (y.shape, y.dtype) == ((len(part), 2, 3), "float32")
        for pixels, (nose, tail) in zip(x[:, 0].astype(float), y, strict=True):
            rows, columns = np.indices(pixels.shape)
            assert abs((pixels * columns).sum() / pixels.sum() - nose[0]) < 0.1
            assert abs((pixels * rows).sum() / pixels.sum() - nose[1]) < 0.1
            assert (nose[2], tail[2]) == (1, 0)
    task = tasks.get("keypoints").of_data(found)
    assert task.classes == ["nose", "tail"]
    trainer = xcnn.Trainer(nn.Identity(), loss=task.create_loss())  # the picture is the heatmap
    for n, place in enumerate([(33, 15), (15, 19), (35, 27)]):  # in pixels of the file
        pixels = task.read(tmp_path / f"{n}.png")
        (point,) = task.predict_one(trainer, pixels)
        assert abs(point[:2] - place).max() <= 1.1
        assert task.draw(pixels, point[None]).shape == (3, *pixels.shape[1:])
    assert task.test_folder(tmp_path, True, size=(32, 32), channels=1)[0] == "test"
    name, pictures = task.test_folder(tmp_path, False, size=(32, 32), channels=1)
    assert (name, len(pictures)) == ("all pictures", 9)
    (tmp_path / "keypoints.csv").write_text(
        "file,nose x,nose y\n" + "".join(f"{n}.png,99,-1\n" for n in range(6))
    )
    with pytest.raises(DataError, match=r"keypoints.csv has no point inside of a training picture"):
        tasks.get("keypoints").load_folder(tmp_path, size=(32, 32))
    (tmp_path / "keypoints.csv").write_text("file,nose x,tail y\n0.png,1,1\n")
    with pytest.raises(DataError, match=r"keypoints.csv, line 1: expected two columns for each"):
        tasks.get("keypoints").load_folder(tmp_path, size=(32, 32))
    (tmp_path / "keypoints.csv").write_text("file,x,y\n0.png,1,1\n")
    with pytest.raises(DataError, match="such as nose x and nose y"):
        tasks.get("keypoints").load_folder(tmp_path, size=(32, 32))
    (tmp_path / "keypoints.csv").write_text("file,nose x,nose y\n" + "0.png,1,1\n" * 2)
    with pytest.raises(DataError, match=r"0.png is listed twice"):
        tasks.get("keypoints").load_folder(tmp_path, size=(32, 32))
    (tmp_path / "keypoints.csv").write_text("file,nose x,nose y\n0.png,1,1\n")
    with pytest.raises(
        DataError, match="of 1 pictures leaves none for training or testing: add so"
    ):
        tasks.get("keypoints").load_folder(tmp_path, size=(32, 32))
    (tmp_path / "keypoints.csv").unlink()
    with pytest.raises(DataError, match="whose first line is such as file,nose x,nose y"):
        tasks.get("keypoints").load_folder(tmp_path, size=(32, 32))


def test_left_and_right_change_places():
    names = ["nose", "left eye", "right eye", "left_hand", "tail"]
    task = tasks.create("keypoints", classes=names, input_shape=(1, 20, 20))
    x, y = np.zeros((64, 1, 20, 20), "uint8"), np.tile(np.float32([[[9, 9, 2]]]), (64, 5, 1))
    y[:, 1, 0], y[:, 2, 0] = 12, 6
    _, found = task.transform("flip")(x, y, np.random.default_rng(0))
    places = {tuple(points[:, 0].tolist()) for points in found}
    assert places == {(9, 12, 6, 9, 9), (10, 13, 7, 10, 10)}
    for names, pairs in (
        (["Left Eye", "right eye", "RIGHT knee", "Left Knee"], [(0, 1), (3, 2)]),
        (["l_hand", "R_hand", "tail", "nail"], [(0, 1)]),
        (["ball", "rear", "left"], []),
    ):
        assert tasks.create("keypoints", classes=names).move_settings == {"pairs": pairs}


def test_settings_of_the_task():
    with pytest.raises(ArgumentError, match="pass the names of the points"):
        tasks.create("keypoints")
    for limbs in ("0-2", "0", "1-x"):
        with pytest.raises(
            ArgumentError, match="expected pairs of points such as 0-1, from 0 to 1"
        ):
            tasks.create("keypoints", classes=["a", "b"], limbs=limbs)
    task = tasks.create("keypoints", classes=["a", "b"], limbs="0-1", input_shape=(1, 8, 8))
    pixels = np.zeros((1, 8, 8), "uint8")
    picture = task.draw(pixels, np.float32([[1, 1, 0.9], [6, 1, 0.8]]))
    assert picture.shape == (3, 8, 8)
    assert (picture[:, 1, 3] == 160).all()  # the limb
    assert set(np.unique(picture[:, 0, 0])) == {230, 25, 75}
    assert not picture[:, 4:].any()
    assert not pixels.any()
    assert (task.draw(pixels, np.float32([[1, 1, 0.05], [-9, 20, 0.8]])) == 0).all()


def test_from_the_command_line(tmp_path, capsys):
    folder, out = tmp_path / "run", tmp_path / "out"
    settings = ["--limit", 48, "--epochs", 1, "--augment", "flip,crop", "--batch-size", 16]
    assert main([*map(str, ["train", "--task", "keypoints", *settings, "--out", folder])]) == 0
    assert "PCK" in capsys.readouterr().out
    picture = tmp_path / "picture.png"
    pixels = load("stick-figures", limit=1).test.arrays[0][0]
    picture.write_bytes(xcnn.data.encode_image(pixels))
    assert main(["predict", str(folder), str(picture), "--out", str(out)]) == 0
    assert "left hand" in capsys.readouterr().out
    (file,) = out.glob("*.json")
    points = json.loads(file.read_text())
    assert list(points) == load("stick-figures", limit=1).classes
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = tmp_path / "points.onnx"
    assert main(["export", str(folder), str(model), "--postprocess"]) == 0
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    x = np.ascontiguousarray(load("stick-figures", limit=1).normalize()(pixels[None]))
    (found,) = session.run(["keypoints"], {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(found[0], list(points.values()), atol=1e-3)
