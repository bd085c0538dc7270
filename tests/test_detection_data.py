"""Pictures with boxes: generated canvases, and folders in the layouts of COCO and Pascal VOC."""

import contextlib
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from xcnn.cli import sources
from xcnn.data import CocoDetection, VOCDetection, load, load_boxes, status
from xcnn.data.sources import canvases, loading
from xcnn.data.sources.registry import REGISTRY
from xcnn.errors import ArgumentError, DataError, FileFormatError, XcnnError

from .data.conftest import load_once

Image = pytest.importorskip("PIL.Image", reason="needs: pip install pillow")

# -- canvases ----------------------------------------------------------------------------------


def test_canvases_have_tight_boxes_of_distinct_digits():
    splits = load_once("digit-boxes")
    assert splits.classes == list("0123456789")
    assert splits.image_shape == (1, 64, 64)
    (x, y), (x_test, y_test) = splits.train.arrays, splits.test.arrays
    assert (len(x), len(x_test)) == (2000, 300)
    np.testing.assert_allclose((x / 255).mean(), splits.mean[0], atol=1e-4)
    np.testing.assert_allclose((x / 255).std(), splits.std[0], atol=1e-4)
    for targets in (y, y_test):
        boxes, labels = targets["boxes"], targets["labels"]
        assert (boxes.dtype, labels.dtype) == ("float32", "int64")
        is_there = labels >= 0
        assert set(is_there.sum(axis=1)) == {1, 2, 3, 4, 5}
        assert set(labels[is_there]) == set(range(10))
        assert (boxes[~is_there] == 0).all()
        longest = (boxes[..., 2:] - boxes[..., :2]).max(axis=-1)[is_there]
        assert (longest.min() >= 12) & (longest.max() <= 28)
        assert (boxes >= 0).all() & (boxes <= 64).all()


def test_a_box_surrounds_its_ink():
    """A full square is drawn to the edges of its box, and what is outside is only background."""
    squares = np.zeros((3, 1, 12, 10), np.uint8)
    squares[:, :, 2:10, 3:8] = 255
    x, y = canvases.compose(squares, np.arange(3), 40, seed=5, size=48)
    for picture, boxes, labels in zip(x[:, 0] / 255, y["boxes"], y["labels"], strict=True):
        inside = np.zeros((48, 48), bool)
        for x1, y1, x2, y2 in boxes[labels >= 0]:
            top, left, bottom, right = (int(np.ceil(n + 1)) for n in (y1, x1, y2 - 2, x2 - 2))
            assert picture[top:bottom, left:right].mean() > 0.55
            inside[max(0, int(y1) - 2) : int(y2) + 3, max(0, int(x1) - 2) : int(x2) + 3] = True
        assert np.median(picture[~inside]) < 0.35


def test_the_seed_determines_the_canvases():
    images, labels = np.full((4, 1, 8, 8), 255, np.uint8), np.arange(4)
    (x, y), (again, _), (other, _) = (
        canvases.compose(images, labels, 3, seed, 32) for seed in (1, 1, 2)
    )
    assert (x == again).all()
    assert not (x == other).all()
    assert canvases.compose(images, labels, 0, size=32)[1]["boxes"].shape == (0, 5, 4)
    assert y["boxes"].shape == (3, 5, 4)


def test_canvases_of_mnist_use_its_own_splits(monkeypatch, tmp_path):
    images = np.zeros((5, 1, 28, 28), np.uint8)
    images[:, :, 8:20, 10:18] = 255
    parts = [images, np.zeros(5, int), images, np.ones(5, int)]
    read, record = loading._read, replace(REGISTRY["mnist-boxes"], counts=(6, 4))
    monkeypatch.setitem(REGISTRY, "mnist-boxes", record)
    monkeypatch.setattr(
        loading, "_read", lambda of, *a: (parts, "here") if of.name == "mnist" else read(of, *a)
    )
    splits = load("mnist-boxes")
    assert splits.source == "here"
    assert set(splits.train.arrays[1]["labels"].ravel()) == {0, -1}
    assert set(splits.test.arrays[1]["labels"].ravel()) == {1, -1}
    monkeypatch.setenv("XCNN_DATA", str(tmp_path))
    monkeypatch.setenv("XCNN_CACHE", str(tmp_path))
    assert status("mnist-boxes").name == "mnist-boxes"
    assert status("mnist-boxes").download_size == status("mnist").download_size > 0


# -- COCO ---------------------------------------------------------------------------------------

CATS = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]


def paint(path, width=40, height=20, value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (value,) * 3).save(path)


def coco(boxes, **changes):
    """A COCO file of two pictures, 40×20: the first has the boxes, the second has none."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 20} for n in (1, 2)]
    things = [
        {"id": n, "image_id": 1, "category_id": 7, "bbox": box} for n, box in enumerate(boxes, 10)
    ]
    return {"images": images, "annotations": things, "categories": CATS, **changes}


@pytest.fixture
def folder(tmp_path):
    for n in (1, 2):
        paint(tmp_path / f"{n}.png", value=90 * n)
    return tmp_path


def stored(folder, content, name="boxes.json"):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_boxes_are_scaled_with_their_picture(folder):
    content = coco([[4, 2, 8, 6], [10, 5, 20, 15]])
    content["annotations"][1] |= {"category_id": 3, "iscrowd": 1, "area": 100}
    data = CocoDetection(folder, stored(folder, content), size=(10, 80))
    assert data.classes == ["dog", "cat"]  # by the ids of the categories
    assert len(data) == 2
    assert data.shape == (3, 10, 80)
    x, y = data.batch(np.array([1, 0]))
    assert x.shape == (2, 3, 10, 80)
    assert (x[0] == 180).all() & (x[1] == 90).all()
    assert {name: of.dtype.name for name, of in y.items()} == {
        **{"boxes": "float32", "labels": "int64", "crowd": "bool", "area": "float32"},
    }
    np.testing.assert_array_equal(y["labels"], [[-1, -1], [1, 0]])
    np.testing.assert_array_equal(y["boxes"][1], [[8, 1, 24, 4], [20, 2.5, 60, 10]])
    np.testing.assert_array_equal(y["crowd"], [[False, False], [False, True]])
    np.testing.assert_array_equal(y["area"], [[0, 0], [48, 100]])  # twice as wide, half as high
    one_x, one = data[1]
    assert (one_x == 180).all()
    assert (one["labels"] == -1).all()
    assert data.class_counts().tolist() == [0, 1]  # without the crowd
    assert "2 pictures, 2 objects of 2 classes" in repr(data)


def test_boxes_outside_or_without_area(folder):
    boxes = [
        [-5, 2, 10, 6],
        [30, 10, 30, 30],
        [50, 2, 5, 5],
        [4, 4, 0, 3],
        [9, 9, -2, 3],
        [0, 0, 40.4, 20],
    ]
    file = stored(folder, coco(boxes))
    with pytest.warns(UserWarning, match="boxes") as caught:
        data = CocoDetection(folder, file, size=(20, 40))
    first, second = (str(w.message) for w in caught)
    assert first == (
        f"{file}: boxes without area in their picture, left out: 3 of 6 (the first: annotation 12)"
    )
    assert second == (
        f"{file}: boxes cut off at the edges of their picture: 2 of 6 (the first: annotation 10)"
    )
    _, y = data[0]
    np.testing.assert_array_equal(y["boxes"], [[0, 2, 5, 8], [30, 10, 40, 20], [0, 0, 40, 20]])


def changed(part, n, **values):
    content = coco([[4, 2, 8, 6], [4, 2, 8, 6]])
    content[part] = [dict(entry) for entry in content[part]]
    content[part][n].update(values)
    return content


BAD = {
    "no JSON": ("{", "damaged"),
    "nothing": ("", "is empty"),
    "a list": ([], "no list 'images'"),
    "no pictures": (coco([], images=[]), "'images' is empty"),
    "file twice": (changed("images", 1, file_name="1.png"), "1.png is listed twice"),
    "NUL": (changed("images", 0, file_name="1\0.png"), "expected a path inside"),
    "no classes": (coco([[1, 1, 2, 2]], categories=[]), "'categories' is empty"),
    "not objects": (coco([[1, 1, 2, 2]], annotations=[3]), "no list 'annotations' of objects"),
    "unknown class": (changed("annotations", 1, category_id=5), "annotation 11 has category_id=5"),
    "class in a list": (changed("annotations", 1, category_id=[7]), "11 has category_id"),
    "unknown picture": (changed("annotations", 1, image_id=9), "annotation 11 has image_id=9"),
    "id twice": (changed("annotations", 1, id=10), "two have the id 10"),
    "picture twice": (changed("images", 1, id=1), "two have the id 1"),
    "id of a list": (changed("images", 1, id=[1]), "an image has id="),
    "name of a number": (changed("images", 0, file_name=3), "image 1 has file_name=3"),
    "outside": (changed("images", 0, file_name="../1.png"), "expected a path inside"),
    "size": (changed("images", 0, width=-4), "image 1 has height and width"),
    "three numbers": (changed("annotations", 0, bbox=[1, 2, 3]), "annotation 10 has bbox="),
    "texts": (changed("annotations", 0, bbox=["1", 2, 3, 4]), "annotation 10 has bbox="),
    "NaN": (changed("annotations", 0, bbox=[1, float("nan"), 3, 4]), "annotation 10 has bbox="),
    "infinite": (changed("annotations", 0, bbox=[1, 2, float("inf"), 4]), "annotation 10 has bbox"),
    "huge": (changed("annotations", 0, bbox=[1, 2, 10**400, 4]), "annotation 10 has bbox="),
    "crowd": (changed("annotations", 0, iscrowd="no"), "annotation 10 has iscrowd='no'"),
    "area": (changed("annotations", 0, area=[3]), "annotation 10 has area="),
    "same names": (changed("categories", 1, name="cat"), "two categories have the name 'cat'"),
    "no picture": (changed("images", 1, file_name="3.png"), "no such file: .*3.png"),
    "another size": (changed("images", 0, width=41), "1.png has 40×20 pixels, but .* 41×20"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_wrong_annotations_are_refused(folder, name):
    content, text = BAD[name]
    file = stored(folder, content)
    with pytest.raises((DataError, FileFormatError), match=text) as error:
        CocoDetection(folder, file)
    if name not in ("no picture", "another size"):  # these name the picture
        assert str(file) in str(error.value)


@pytest.mark.parametrize("width", [1e-9, 1e-6])
def test_boxes_that_are_too_narrow_for_float32(folder, width):
    """39 + 1e-6 is 39 in float32."""
    file = stored(folder, coco([[39, 2, width, 4], [4, 2, 8, 6]]))
    with pytest.warns(
        UserWarning, match=r"boxes without area .*: 1 of 2 \(the first: annotation 10"
    ):
        data = CocoDetection(folder, file, size=(20, 40))
    assert data[0][1]["labels"].tolist() == [1]


def test_pictures_without_objects(folder):
    """Allowed for testing, with a warning."""
    for name in ("train", "val"):
        content = coco([[1, 1, 3, 3]] if name == "train" else [])
        stored(folder, content, f"annotations/instances_{name}.json")
        for n in (1, 2):
            paint(folder / name / f"{n}.png")
    with pytest.warns(UserWarning, match="pictures") as caught:
        data = load_boxes(folder, 16)
    assert str(caught[1].message) == (
        f"{folder}: the test pictures have no objects, not counting crowds, so nothing can be "
        "measured"
    )
    assert (data.test.batch(np.arange(2))[1]["labels"]).shape == (2, 0)
    stored(folder, coco([]), "annotations/instances_train.json")
    with pytest.raises(DataError, match="the training pictures have no objects"):
        load_boxes(folder, 16)
    stored(folder, coco([[1, 1, 3, 3]]), "annotations/instances_train2017.json")
    with pytest.raises(
        DataError, match=r"instances_train\.json, instances_train2017\.json: keep one"
    ):
        load_boxes(folder, 16)


def test_files_of_the_targets_count_when_a_training_goes_on(folder):
    file = each(folder, folder, range(5))
    before = sources.files(load_boxes(folder, 16))
    file.write_text(file.read_text().replace("[1, 2", "[1.5, 2"))
    after = sources.files(load_boxes(folder, 16))
    assert before != after
    assert before.split()[0] == after.split()[0] == "5"


def test_unusable_pictures_can_be_left_out(folder):
    content = changed("images", 1, file_name="3.png")
    with pytest.warns(UserWarning, match="1 of 2 pictures are left out:\n  no such file: .*3.png"):
        data = CocoDetection(folder, stored(folder, content), on_error="skip")
    assert len(data) == 1
    content["images"][0]["file_name"] = "4.png"
    with pytest.raises(DataError, match=r"4\.png"):
        CocoDetection(folder, stored(folder, content), on_error="skip")
    with pytest.raises(ArgumentError, match="on_error"):
        CocoDetection(folder, stored(folder, coco([[1, 1, 3, 3]])), on_error="ignore")


def test_a_truncated_picture(folder):
    content = coco([[1, 1, 3, 3]])
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 40), np.uint8)).save(
        folder / "2.png"
    )
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(whole[: len(whole) // 2])
    file = stored(folder, content)
    data = CocoDetection(folder, file)
    with pytest.raises(DataError, match=r"2\.png cannot be read .*--skip-unreadable"):
        data[1]
    with pytest.warns(UserWarning, match="1 of 2 pictures are left out"):
        assert len(CocoDetection(folder, file, on_error="skip")) == 1


def test_a_turned_photograph(folder):
    """Its annotations are for the picture as it is shown."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 40)).save(folder / "1.png", exif=exif)
    assert len(CocoDetection(folder, stored(folder, coco([[1, 1, 3, 3]])))) == 2


def test_classes_by_name(folder):
    file = stored(folder, coco([[1, 1, 3, 3]]))
    assert CocoDetection(folder, file, classes=["cat", "dog"])[0][1]["labels"].tolist() == [0]
    with pytest.raises(
        DataError, match=r"annotation 10 of .*1.png is of the class 'cat': expected"
    ):
        CocoDetection(folder, file, classes=["dog"])


# -- layouts --------------------------------------------------------------------------------------


def each(prefix, folder, numbers):
    """A COCO file of pictures 40×20 with a cat each, and the pictures."""
    for n in numbers:
        paint(folder / f"{n}.png")
    images = [{"id": n, "file_name": f"{n}.png"} for n in numbers]
    things = [{"image_id": n, "category_id": 7, "bbox": [1, 2, 3, 4]} for n in numbers]
    stored(prefix, {"images": images, "annotations": things, "categories": CATS[:1]}, "x.json")
    return prefix / "x.json"


@pytest.mark.parametrize("layout", ["coco", "roboflow", "one file"])
def test_coco_layouts(tmp_path, layout):
    places = {
        "coco": ("annotations/instances_{}2017.json", "{}2017", ("train", "val")),
        "roboflow": ("{}/_annotations.coco.json", "{}", ("train", "valid")),
        "one file": ("labels.json", "images", ("",)),
    }
    file, images, splits = places[layout]
    for n, name in enumerate(splits):
        made = each(tmp_path, tmp_path / images.format(name), range(10 * n, 10 * n + 10 - 5 * n))
        target = tmp_path / file.format(name)
        target.parent.mkdir(exist_ok=True)
        made.rename(target)
    data = load_boxes(tmp_path, size=16)
    assert data.classes == ["cat"]
    assert (len(data.train), len(data.test)) == ((8, 2) if layout == "one file" else (10, 5))
    assert data.image_shape == (3, 16, 16)
    assert len(data.mean) == 3
    assert len(load_boxes(tmp_path, 16, limit=3).train) == 3
    x, y = data.test.batch(np.arange(2))
    assert (y["labels"] == 0).all()
    assert x.shape == (2, 3, 16, 16)


def test_a_class_that_a_split_lacks(tmp_path):
    made = each(tmp_path, tmp_path / "train", range(2))
    content = json.loads(made.read_text())
    content["categories"] = [*CATS, {"id": 0, "name": "pets"}, {"id": 9, "name": "pets 2"}]
    for category in content["categories"]:
        category["supercategory"] = "pets"  # as Roboflow writes: a group without objects
    stored(tmp_path, content, "train/_annotations.coco.json")
    made.unlink()
    with pytest.warns(UserWarning, match="pictures") as caught:
        data = load_boxes(tmp_path, 16, share=0.5)
    assert [str(w.message) for w in caught] == [
        f"{tmp_path}: no dog, pets 2 in the {name} pictures" for name in ("training", "test")
    ]
    assert data.classes == ["dog", "cat", "pets 2"]


XML = """<annotation><filename>any.jpg</filename>
<size><width>40</width><height>20</height><depth>3</depth></size>
<object><name>cat</name><difficult>{difficult}</difficult>
<bndbox><xmin>{x}</xmin><ymin>3</ymin><xmax>20</xmax><ymax>12</ymax></bndbox></object>
</annotation>"""


def voc(root, names, **values):
    for name in names:
        paint(root / "JPEGImages" / f"{name}.jpg")
        text = XML.format(**{"x": 5, "difficult": 0, **values})
        stored(root, text, f"Annotations/{name}.xml")


def test_voc(tmp_path):
    voc(tmp_path, ["a", "b", "c"])
    voc(tmp_path, ["d"], difficult=1)
    data = VOCDetection(tmp_path, size=(20, 80))
    _, y = data.batch(np.arange(4))
    np.testing.assert_array_equal(y["boxes"][0, 0], [8, 2, 40, 12])  # 4 to 20, 2 to 12
    np.testing.assert_array_equal(y["crowd"][:, 0], [False, False, False, True])
    assert data.classes == ["cat"]
    assert [len(part) for part in (load_boxes(tmp_path).train, load_boxes(tmp_path).test)] == [3, 1]
    stored(tmp_path, "a\nb\n", "ImageSets/Main/train.txt")
    stored(tmp_path, "c 1\nd -1\n", "ImageSets/Main/val.txt")
    splits = load_boxes(tmp_path, size=8)
    assert [path[-5:] for path in splits.test.paths] == ["c.jpg", "d.jpg"]
    assert "train" in repr(splits.train)


def test_boxes_outside_of_voc(tmp_path):
    voc(tmp_path, ["a"])
    voc(tmp_path, ["b"], x=-7)
    voc(tmp_path, ["c"], x=30)  # right of xmax
    with pytest.warns(UserWarning, match="boxes") as caught:
        data = VOCDetection(tmp_path)
    assert [str(w.message).split("the first: ")[1] for w in caught] == [
        f"object 1 of {name}.xml)" for name in "cb"
    ]
    assert (data.batch(np.arange(3))[1]["labels"] == [[0], [0], [-1]]).all()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<annotation>", "not in Pascal VOC's format"),
        ("", "not in Pascal VOC's format"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "document type declaration"),
        (XML.format(x="nan", difficult=0), "xmin of object 1 of b.xml is 'nan'"),
        (XML.format(x="", difficult=0), "xmin of object 1 of b.xml is ''"),
        (XML.format(x=5, difficult=0).replace("cat", " "), "object 1 of b.xml has no name"),
        (XML.format(x=5, difficult=0).replace(">40<", ">wide<"), "size is 'wide'"),
        (XML.format(x=5, difficult=0).replace("annotation>", "note>"), "element is 'note'"),
    ],
)
def test_wrong_xml_is_refused(tmp_path, text, problem):
    voc(tmp_path, ["a"])
    file = stored(tmp_path, text, "Annotations/b.xml")
    paint(tmp_path / "JPEGImages" / "b.jpg")
    with pytest.raises(DataError, match=problem) as error:
        VOCDetection(tmp_path)
    assert str(file) in str(error.value)
    assert "--skip-unreadable" in str(error.value)
    with pytest.warns(UserWarning, match=f"1 of 2 pictures are left out(.|\n)*{problem}"):
        assert len(VOCDetection(tmp_path, on_error="skip")) == 1


def test_voc_files_in_other_encodings_hidden_ones_and_names_of_two(tmp_path):
    voc(tmp_path, ["a"])
    text = '<?xml version="1.0" encoding="{}"?>' + XML.format(x=5, difficult=0)
    for n, encoding in enumerate(("utf-16", "latin-1", "utf-8-sig")):
        paint(tmp_path / "JPEGImages" / f"{n}.jpg")
        content = text.format(encoding.removesuffix("-sig")).replace("cat", "Bär").encode(encoding)
        (tmp_path / "Annotations" / f"{n}.xml").write_bytes(content)
    for name in ("JPEGImages/._a.jpg", "Annotations/._a.xml"):
        stored(tmp_path, "of macOS", name)
    data = VOCDetection(tmp_path)
    assert (len(data), data.classes) == (4, ["Bär", "cat"])
    paint(tmp_path / "JPEGImages" / "a.png")
    with pytest.raises(DataError, match=r"a\.jpg and .*a\.png have one name"):
        VOCDetection(tmp_path)


def test_pictures_in_both_lists(tmp_path):
    voc(tmp_path, ["a", "b"])
    for name in ("train", "test"):
        stored(tmp_path, "a\n", f"ImageSets/Main/{name}.txt")
    with pytest.raises(DataError, match=r"a\.jpg is listed twice"):
        load_boxes(tmp_path)


def test_missing_files_of_voc(tmp_path):
    voc(tmp_path, ["a"])
    stored(tmp_path, "a\nz\n", "ImageSets/Main/train.txt")
    with pytest.raises(DataError, match=r"no such file: .*z\.xml"):
        VOCDetection(tmp_path, "train")
    with pytest.raises(DataError, match=r"no such file: .*test\.txt"):
        VOCDetection(tmp_path, "test")
    stored(tmp_path, XML.format(x=1, difficult=0), "Annotations/z.xml")
    with pytest.raises(DataError, match=r"z\.xml: its picture any is not in JPEGImages"):
        VOCDetection(tmp_path, "train")
    with pytest.raises(DataError, match="no such folder"):
        VOCDetection(tmp_path / "Annotations")


def test_folders_without_annotations(tmp_path):
    with pytest.raises(DataError, match="no annotations of boxes in a known layout"):
        load_boxes(tmp_path)
    for name in "ab":
        stored(tmp_path, "{}", f"{name}.json")
    with pytest.raises(DataError, match=r"several JSON files, a\.json, b\.json"):
        load_boxes(tmp_path)


def test_damaged_annotations_give_one_kind_of_error(folder):
    """Whatever bytes are changed, the file is read or refused by an error that names a file."""
    text = json.dumps(coco([[4, 2, 8, 6], [3, 3, 9, 9]]))
    rng = np.random.default_rng(0)
    for _ in range(60):
        place, char = int(rng.integers(len(text))), rng.choice(list('0{}[],"-e'))
        file = stored(folder, text[:place] + char + text[place + 1 :])
        with warnings.catch_warnings(), contextlib.suppress(XcnnError):
            warnings.simplefilter("ignore", UserWarning)
            CocoDetection(folder, file)
