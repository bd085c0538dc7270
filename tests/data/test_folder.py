"""Image folders: which files are used, how they are read, and unreadable files."""

import os

import numpy as np
import pytest

from xcnn.data import (
    DataLoader,
    ImageFolder,
    Subset,
    load_folder,
    read_image,
    split_folder,
    subsample,
)
from xcnn.data.folder import channel_statistics
from xcnn.errors import ArgumentError, DataError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write(path, array, mode=None, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **settings)


def plain(path, value, size=(6, 6)):
    """Write an image of one colour, which identifies it."""
    write(path, np.full((*size, 3), value, np.uint8))


@pytest.fixture
def animals(tmp_path):
    """10 cats coloured 1 to 10 and 5 dogs coloured 101 to 105, named after their colours."""
    for name, first, count in (("dog", 101, 5), ("cat", 1, 10)):
        for value in range(first, first + count):
            plain(tmp_path / "animals" / name / f"{value:03}.png", value)
    return tmp_path / "animals"


def values(dataset):
    x, _ = dataset.batch(np.arange(len(dataset)))
    assert (x == x[:, :1, :1, :1]).all()
    return x[:, 0, 0, 0].tolist()


def test_classes_and_items_are_sorted(animals):
    (animals / "cat" / "deeper").mkdir()
    plain(animals / "cat" / "deeper" / "0.PNG", 77)
    (animals / "cat" / "notes.txt").write_text("not an image")
    (animals / "cat" / "._001.png").write_text("what a Mac leaves behind")
    (animals / ".cache").mkdir()
    (animals / "readme.png").write_text("lies in no class")
    data = ImageFolder(animals, size=4)
    assert data.classes == ["cat", "dog"]
    assert values(data) == [*range(1, 11), 77, *range(101, 106)]
    assert data.labels.tolist() == [0] * 11 + [1] * 5
    assert data.labels.dtype == np.int64
    assert len(data) == 16
    image, label = data[-1]
    assert (image.shape, image.dtype, int(label)) == ((3, 4, 4), "uint8", 1)
    assert image[0, 0, 0] == 105
    with pytest.raises(IndexError):
        data[16]
    assert repr(data) == f"ImageFolder({str(animals)!r}: 16 images of 2 classes as 3×4×4)"


def test_batches(animals):
    data = ImageFolder(animals, size=(4, 5), channels=1)
    x, y = data.batch(np.array([12, 0, -1]))
    assert (x.shape, x.dtype) == ((3, 1, 4, 5), "uint8")
    assert x[:, 0, 0, 0].tolist() == [103, 1, 105]
    assert y.tolist() == [1, 0, 1]
    x, y = data.batch(np.array([], int))
    assert (x.shape, y.shape) == ((0, 1, 4, 5), (0,))


@pytest.mark.parametrize("threads", [1, 7])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_in_a_loader(animals, threads, prefetch):
    data = ImageFolder(animals, size=4, threads=threads)
    loader = DataLoader(data, 4, shuffle=True, seed=1, prefetch=prefetch)
    items = [(int(v), int(k)) for x, y in loader for v, k in zip(x[:, 0, 0, 0], y, strict=True)]
    order = loader.order(0)
    assert items == [(values(data)[i], int(data.labels[i])) for i in order]


def test_images_are_read_on_demand(animals, monkeypatch):
    read = []

    def counted(path, *rest, **settings):
        read.append(os.path.basename(path))
        return read_image(path, *rest, **settings)

    monkeypatch.setattr("xcnn.data.folder.read_image", counted)
    data = ImageFolder(animals, size=4)
    assert read == []
    data.batch(np.array([3, 11]))
    data.batch(np.array([3]))
    assert sorted(read) == ["004.png", "004.png", "102.png"]


def test_centre_crop_keeps_the_aspect_ratio(tmp_path):
    """A white square in the middle stays square; the sides are cropped."""
    picture = np.zeros((20, 60), np.uint8)
    picture[5:15, 25:35] = 255
    picture[:, :19] = picture[:, 41:] = 100  # outside the middle 20 columns
    write(tmp_path / "a" / "wide.png", picture)
    write(tmp_path / "a" / "high.png", picture.T.copy())
    x, _ = ImageFolder(tmp_path, size=20, channels=1).batch(np.arange(2))
    np.testing.assert_array_equal(x[1, 0], picture[:, 20:40])
    np.testing.assert_array_equal(x[0, 0], picture[:, 20:40].T)
    x, _ = ImageFolder(tmp_path, size=10, channels=1).batch(np.arange(2))
    assert (x[:, 0, 3:7, 3:7] == 255).all()
    assert (x[:, 0, 0] < 20).all()
    x, _ = ImageFolder(tmp_path, size=(10, 30), channels=1).batch(np.array([1]))
    assert x[0, 0, 5, 1] == 100  # the whole width


@pytest.mark.parametrize("size", [(7, 5), (30, 11), (16, 16)])
def test_resized_as_pillow_does(tmp_path, size):
    picture = pixels(24, 17, 3)
    write(tmp_path / "a" / "1.png", picture)
    height, width = size
    zoom = max(height / 24, width / 17)
    box = ((17 - width / zoom) / 2, (24 - height / zoom) / 2)
    box = (*box, 17 - box[0], 24 - box[1])
    expected = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=box)
    image, _ = ImageFolder(tmp_path, size=size)[0]
    np.testing.assert_allclose(np.moveaxis(image.astype(int), 0, 2), np.asarray(expected), atol=1)


def test_image_formats(tmp_path):
    folder, grey, colour = tmp_path / "a", pixels(8, 8), pixels(8, 8, 3, seed=1)
    write(folder / "1-grey.png", grey)
    write(folder / "2-colour.png", colour)
    write(folder / "3-photo.jpg", np.full((8, 8, 3), (200, 100, 50), np.uint8), quality=95)
    clear = np.dstack([colour, np.where(np.arange(8) < 4, 255, 0)[None].repeat(8, 0)])
    write(folder / "4-clear.png", clear.astype(np.uint8))
    blocks = np.kron([[0, 255], [255, 0]], np.ones((4, 4))).astype(np.uint8)
    write(folder / "5-palette.png", np.dstack([blocks, blocks * 0, blocks]), mode="P")
    write(folder / "6-palette.gif", blocks, mode="P")
    write(folder / "7.bmp", colour)
    write(folder / "8.webp", np.full((8, 8, 3), 60, np.uint8), quality=95)
    write(folder / "9-cmyk.jpg", np.full((8, 8, 3), 60, np.uint8), mode="CMYK", quality=95)
    x, _ = ImageFolder(tmp_path, size=8).batch(np.arange(9))
    np.testing.assert_array_equal(x[0], np.stack([grey] * 3))
    np.testing.assert_array_equal(x[1], np.moveaxis(colour, 2, 0))
    assert abs(x[2].astype(int) - np.reshape([200, 100, 50], (3, 1, 1))).max() < 6
    np.testing.assert_array_equal(x[3][:, :, :4], np.moveaxis(colour, 2, 0)[:, :, :4])
    assert (x[3][:, :, 4:] == 255).all()  # transparent is white
    np.testing.assert_array_equal(x[4], np.stack([blocks, blocks * 0, blocks]))
    np.testing.assert_array_equal(x[5], np.stack([blocks] * 3))
    np.testing.assert_array_equal(x[6], x[1])
    for photo in x[7:]:
        assert abs(photo.astype(int) - 60).max() < 8
    one, _ = ImageFolder(tmp_path, size=8, channels=1).batch(np.arange(2))
    luma = colour @ [0.299, 0.587, 0.114]
    np.testing.assert_array_equal(one[0, 0], grey)
    np.testing.assert_allclose(one[1, 0], luma, atol=1)


# Unreadable files


def spoil(animals):
    """Add four unreadable files."""
    (animals / "cat" / "text.png").write_text("not an image")
    (animals / "dog" / "empty.jpg").write_bytes(b"")
    for name, array in (("half.png", pixels(40, 40)), ("half.jpg", pixels(40, 40, 3))):
        write(animals / "dog" / name, array)
        whole = (animals / "dog" / name).read_bytes()
        (animals / "dog" / name).write_bytes(whole[: len(whole) // 2])
    return ["cat/text.png", "dog/empty.jpg", "dog/half.jpg", "dog/half.png"]


def test_unreadable_files_are_refused_by_name(animals):
    bad = [str(animals / name) for name in spoil(animals)]
    data = ImageFolder(animals, size=4)
    assert len(data) == 19
    for path in bad:
        number = data.paths.index(path)
        with pytest.raises(DataError) as caught:
            data[number]
        assert path in str(caught.value)
        assert 'on_error="skip"' in str(caught.value)
        with pytest.raises(DataError, match=os.path.basename(path)):
            list(DataLoader(Subset(data, [0, number]), 2))


def test_unreadable_files_are_left_out_and_named_once(animals):
    bad = spoil(animals)
    with pytest.warns(UserWarning, match="4 of 19 files are left out") as caught:
        data = ImageFolder(animals, size=4, on_error="skip")
    assert len(caught) == 1
    for name in bad:
        assert str(caught[0].message).count(f"{animals / name} cannot be read") == 1
    assert values(data) == [*range(1, 11), *range(101, 106)]
    assert data.labels.tolist() == [0] * 10 + [1] * 5
    assert sum(len(x) for x, _ in DataLoader(data, 4)) == 15


def test_no_warning_if_all_files_are_readable(animals):
    assert len(ImageFolder(animals, size=4, on_error="skip")) == 15


def test_no_readable_images(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_text("not an image")
    with (
        pytest.warns(UserWarning, match="1 of 1"),
        pytest.raises(DataError, match="no readable images"),
    ):
        ImageFolder(tmp_path, on_error="skip")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [399, 300, 100])
def test_a_decompression_bomb(animals, monkeypatch, limit):
    """Pillow only warns up to twice its limit."""
    write(animals / "cat" / "bomb.png", np.zeros((20, 20), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    data = ImageFolder(animals, size=4)
    number = data.paths.index(str(animals / "cat" / "bomb.png"))
    with pytest.raises(DataError, match=r"bomb\.png cannot be read as an image: .* pixels"):
        data[number]
    with pytest.warns(UserWarning, match=r"bomb\.png"):
        assert len(ImageFolder(animals, size=4, on_error="skip")) == 15
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    assert data[number][0].max() == 0


def test_invalid_folders(tmp_path, animals):
    with pytest.raises(DataError, match="nowhere is not a folder"):
        ImageFolder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no folders"):
        ImageFolder(tmp_path / "empty")
    (animals / "bird").mkdir()
    with pytest.raises(DataError, match=r"bird has no images \(.*\.png"):
        ImageFolder(animals)
    (animals / "bird").rmdir()
    with pytest.raises(DataError, match="the classes dog, expected some of cat, cow"):
        ImageFolder(animals, classes=["cat", "cow"])
    assert ImageFolder(animals, classes=["dog", "cow", "cat"]).labels.tolist() == [2] * 10 + [0] * 5


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"size": 0}, "size=0"),
        ({"size": (3, 3, 3)}, "size="),
        ({"channels": 4}, r"channels=4: expected 1 \(grey\) or 3"),
        ({"on_error": "ignore"}, "on_error='ignore'"),
        ({"threads": 0}, "threads=0"),
    ],
)
def test_bad_arguments(animals, settings, text):
    with pytest.raises(ArgumentError, match=text):
        ImageFolder(animals, **settings)


# load_folder and split_folder


def test_train_and_test_folders(tmp_path, animals):
    root = tmp_path / "root"
    root.mkdir()
    animals.rename(root / "train")
    plain(root / "val" / "dog" / "1.png", 7)
    data = load_folder(root, size=4)
    assert len(data.train) == 15
    assert values(data.test) == [7]
    assert data.test.labels.tolist() == [1]  # as in training, though there is no cat
    plain(root / "test" / "cat" / "1.png", 9)
    data = load_folder(root, size=4)
    assert values(data.test) == [9]  # test comes before val
    assert data.classes == ["cat", "dog"]
    assert (data.name, data.source, data.kind) == (str(root), str(root), "images")
    assert data.image_shape == (3, 4, 4)
    plain(root / "test" / "cow" / "1.png", 9)
    with pytest.raises(DataError, match="the classes cow, expected some of cat, dog"):
        load_folder(root)


@pytest.mark.parametrize("inside", [False, True])
def test_a_share_is_held_out(tmp_path, animals, inside):
    if inside:  # a train folder without a test folder
        (tmp_path / "root").mkdir()
        animals = animals.rename(tmp_path / "root" / "train").parent
    data = load_folder(animals, size=4)
    train, test = values(data.train), values(data.test)
    assert sorted(train + test) == [*range(1, 11), *range(101, 106)]
    assert (sum(v < 100 for v in test), sum(v > 100 for v in test)) == (2, 1)
    assert values(load_folder(animals, size=4).test) == test
    others = [tuple(values(load_folder(animals, size=4, seed=s).test)) for s in range(1, 5)]
    assert len({tuple(test), *others}) > 2
    assert len(load_folder(animals, size=4, share=0.4).test) == 6


def test_too_few_to_hold_out(tmp_path):
    plain(tmp_path / "a" / "1.png", 1)
    with (
        pytest.warns(
            UserWarning, match="has only one class, 'a', so every network is always right"
        ),
        pytest.raises(DataError, match=r"has 1 images: holding out 0\.2"),
    ):
        split_folder(tmp_path)


def test_one_class_is_reported(tmp_path, animals):
    """Usually it is the folder above the right one."""
    for load in (load_folder, split_folder):
        with pytest.warns(UserWarning, match="has only one class, 'animals'") as caught:
            load(tmp_path, size=4)
        assert len(caught) == 1
    assert len(split_folder(tmp_path, size=4, classes=["animals"])) == 3  # evaluating a network


def link(path, target):
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("needs: permission to create links")


def test_hidden_files_and_folders_are_ignored(animals):
    for name in (".ipynb_checkpoints", ".thumbs", "__MACOSX", "deep/.hidden/deeper"):
        plain(animals / "cat" / name / "1.png", 200)
    for name in ("._001.png", ".DS_Store", ".hidden.png"):
        (animals / "cat" / name).write_bytes(b"no image")
    plain(animals / "__MACOSX" / "1.png", 200)
    assert values(ImageFolder(animals, size=4)) == [*range(1, 11), *range(101, 106)]


def test_links_are_followed(tmp_path, animals):
    plain(tmp_path / "elsewhere" / "more.png", 50)
    link(animals / "cat" / "zz", tmp_path / "elsewhere")
    link(animals / "mouse", tmp_path / "elsewhere")
    link(animals / "cat" / "zz.png", tmp_path / "elsewhere" / "more.png")
    data = ImageFolder(animals, size=4)
    assert data.classes == ["cat", "dog", "mouse"]
    assert values(data) == [*range(1, 11), 50, 50, *range(101, 106), 50]


def test_two_links_to_one_folder(tmp_path, animals):
    plain(animals / "cat" / "deep" / "more.png", 50)
    for name in ("a", "b", "z"):
        link(animals / "cat" / name, animals / "cat" / "deep")
    assert values(ImageFolder(animals, size=4)).count(50) == 1


def test_links_in_a_circle(tmp_path, animals):
    link(animals / "cat" / "up", animals / "cat")
    link(animals / "cat" / "higher", animals)
    link(animals / "dog" / "self", animals / "dog" / "self")
    data = ImageFolder(animals, size=4)
    assert sorted(values(data)) == sorted([*range(1, 11), *range(101, 106), *range(101, 106)])


def test_limit_takes_from_every_class(animals):
    data = load_folder(animals, size=4, limit=8, share=0.4)
    assert len(data.train) == 8
    assert len(data.test) == 6
    assert {v > 100 for v in values(data.train)} == {True, False}
    assert values(load_folder(animals, size=4, limit=8, share=0.4).train) == values(data.train)


def test_mean_and_deviation(animals):
    whole = ImageFolder(animals, size=4)
    x = whole.batch(np.arange(15))[0] / 255.0
    for batch_size in (1, 4, 64):
        mean, std = channel_statistics(whole, batch_size)
        np.testing.assert_allclose(mean, x.mean(axis=(0, 2, 3)), atol=6e-5)
        np.testing.assert_allclose(std, x.std(axis=(0, 2, 3)), atol=6e-5)
    some = subsample(whole, 6, seed=2)
    assert len(some) == 6
    assert channel_statistics(some)[0] != mean
    data = load_folder(animals, size=4)
    z = data.normalize()(data.train.batch(np.arange(12))[0])
    assert abs(z.mean()) < 1e-3
    assert abs(z.std() - 1) < 1e-3


def test_constant_images(tmp_path):
    for i in range(4):
        plain(tmp_path / "ab"[i % 2] / f"{i}.png", 51)
    data = load_folder(tmp_path, size=4)
    assert (data.mean, data.std) == ((0.2,) * 3, (1.0,) * 3)
    assert np.isfinite(data.normalize()(data.test.batch(np.arange(1))[0])).all()
