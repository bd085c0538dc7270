import builtins

import numpy as np
import pytest

from xcnn.data import decode_image, read_image
from xcnn.data.images import image_size
from xcnn.errors import ArgumentError, DataError, MissingPackageError


@pytest.fixture
def pil():
    return pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("invert", [False, True])
def test_a_grey_picture(pil, tmp_path, invert):
    grey = pixels(5, 7)
    pil.fromarray(grey).save(tmp_path / "p.png")
    image = read_image(tmp_path / "p.png", (1, 5, 7), invert=invert)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    np.testing.assert_array_equal(image[0], 255 - grey if invert else grey)
    np.testing.assert_array_equal(read_image(tmp_path / "p.png", (3, 5, 7))[2], grey)


def test_a_colour_picture(pil, tmp_path):
    colour = pixels(5, 7, 3)
    pil.fromarray(colour).save(tmp_path / "p.png")
    image = read_image(str(tmp_path / "p.png"), (3, 5, 7))
    np.testing.assert_array_equal(image, np.moveaxis(colour, 2, 0))
    luma = colour @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(read_image(tmp_path / "p.png", (1, 5, 7))[0], luma, atol=1)


@pytest.mark.parametrize("size", [(1, 5), (3, 5), (5, 3), (5, 1), (3, 3)])
@pytest.mark.parametrize("target", [(1, 5), (3, 5), (5, 3), (3, 3), (4, 6)])
def test_sizes_that_look_like_channels(pil, tmp_path, size, target):
    colour = pixels(*size, 3)
    pil.fromarray(colour).save(tmp_path / "p.png")
    wanted = pil.fromarray(colour).resize((target[1], target[0]), pil.Resampling.BILINEAR)
    image = read_image(tmp_path / "p.png", (3, *target))
    np.testing.assert_array_equal(image, np.moveaxis(np.asarray(wanted), 2, 0))
    assert image.flags.c_contiguous
    assert read_image(tmp_path / "p.png", (1, *target)).shape == (1, *target)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_photograph(pil, tmp_path, orientation):
    from PIL import ImageOps

    picture = pil.fromarray(pixels(6, 8, 3))
    exif = pil.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "p.png", exif=exif)
    with pil.open(tmp_path / "p.png") as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened))
    image = read_image(tmp_path / "p.png", (3, *wanted.shape[:2]))
    np.testing.assert_array_equal(image, np.moveaxis(wanted, 2, 0))


def test_metadata_after_the_pixels_of_a_png_is_not_read(pil, tmp_path):
    """Neither for the size nor for the picture: finding it means to decode all pixels."""
    exif = pil.Exif()
    exif[0x0112] = 6
    pil.new("RGB", (6, 4)).save(tmp_path / "p.png", exif=exif)
    for size in (image_size(tmp_path / "p.png"), read_image(tmp_path / "p.png", (3, None, None))):
        assert getattr(size, "shape", size)[-2:] == (6, 4)
    content = (tmp_path / "p.png").read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4])
    chunk, rest = content[start:end], content[:start] + content[end:]
    (tmp_path / "p.png").write_bytes(rest[:-12] + chunk + rest[-12:])
    assert image_size(tmp_path / "p.png") == (4, 6)
    assert read_image(tmp_path / "p.png", (3, None, None)).shape == (3, 4, 6)


def test_half_transparent_pixels_are_mixed_with_white(pil, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 4)).astype(np.uint8)
    pil.fromarray(picture).save(tmp_path / "p.png")
    alpha = picture[:, :, 3:] / 255
    wanted = picture[:, :, :3] * alpha + 255 * (1 - alpha)
    image = np.moveaxis(read_image(tmp_path / "p.png", (3, 16, 16)), 0, 2)
    np.testing.assert_allclose(image, wanted, atol=1)


def test_large_but_honest_images_are_read(pil, tmp_path):
    """24 megapixels of noise in colour, and a blank page in black and white."""
    noise = pixels(400, 600, 3)
    pil.fromarray(np.tile(noise, (10, 10, 1))).save(tmp_path / "p.jpg", quality=50)
    assert read_image(tmp_path / "p.jpg", (3, 8, 8)).std() < 20
    pil.new("1", (7000, 5000), 1).save(tmp_path / "page.png")
    assert (read_image(tmp_path / "page.png", (1, 8, 8)) == 255).all()


def test_resizing(pil, tmp_path):
    pil.fromarray(np.full((50, 40, 3), 77, np.uint8)).save(tmp_path / "p.jpg", quality=95)
    image = read_image(tmp_path / "p.jpg", (1, 28, 20))
    assert image.shape == (1, 28, 20)
    np.testing.assert_allclose(image, 77, atol=2)


def test_transparent_pixels_become_white(pil, tmp_path):
    picture = np.zeros((4, 4, 4), np.uint8)
    picture[0, 0, 3] = 255
    pil.fromarray(picture).save(tmp_path / "p.png")
    image = read_image(tmp_path / "p.png", (1, 4, 4))[0]
    assert image[0, 0] == 0
    assert (image.ravel()[1:] == 255).all()


def test_black_and_white_and_16_bits(pil, tmp_path):
    pil.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_image(tmp_path / "1.png", (1, 4, 4))[0], np.eye(4) * 255)
    deep = np.array([[0, 257, 65535]], np.uint16)
    pil.fromarray(deep).save(tmp_path / "16.png")
    assert read_image(tmp_path / "16.png", (1, 1, 3)).ravel().tolist() == [0, 1, 255]


def test_unreadable_images(pil, tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    pil.fromarray(pixels(50, 50)).save(tmp_path / "half.png")
    whole = (tmp_path / "half.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    for name in ("text.png", "half.png", "none.png"):
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / name, (1, 28, 28))


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (3, 4, 6), (5, 4, 6)])
def test_npy_of_the_right_size(tmp_path, shape):
    array = pixels(*shape)
    np.save(tmp_path / "a.npy", array)
    wanted = array.reshape(-1, 4, 6)
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy", wanted.shape), wanted)


def test_npy_of_floats_and_channels_last(tmp_path):
    np.save(tmp_path / "f.npy", np.array([[0, 0.5, 1]], np.float32))
    assert read_image(tmp_path / "f.npy", (1, 1, 3)).ravel().tolist() == [0, 128, 255]
    array = pixels(4, 6, 3)
    np.save(tmp_path / "l.npy", array)
    np.testing.assert_array_equal(
        read_image(tmp_path / "l.npy", (3, 4, 6)), np.moveaxis(array, 2, 0)
    )


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros(5, np.uint8), r"\(5,\)"),
        (np.zeros((0, 5), np.uint8), r"\(0, 5\)"),
        (np.zeros((2, 4, 4), np.uint8), r"\(2, 4, 4\).*\(1, 28, 28\)"),
        (np.full((28, 28), 300), "int64 from 300 to 300"),
        (np.full((28, 28), np.nan), "float64 from nan"),
        (np.full((28, 28), 1.5), "expected uint8, or floats"),
    ],
)
def test_npy_errors_name_the_file(tmp_path, array, text):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=r"a\.npy.*" + text):
        read_image(tmp_path / "a.npy", (1, 28, 28))


def test_npy_is_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "short.npy").write_bytes(b"\x93NUMPY")
    for name in ("a.npy", "short.npy", "none.npy"):
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / name, (1, 28, 28))


@pytest.mark.parametrize("shape", [(28, 28), (1, 0, 28), (1, 2.5, 3)])
def test_bad_shape(shape):
    with pytest.raises(ArgumentError, match="shape="):
        read_image("p.png", shape)


@pytest.mark.parametrize("crop", [False, True])
def test_the_content_of_a_file(pil, tmp_path, crop):
    pil.fromarray(pixels(9, 12, 3)).save(tmp_path / "p.png")
    content = (tmp_path / "p.png").read_bytes()
    for shape in ((3, 9, 12), (1, 5, 5)):
        image = decode_image(content, shape, invert=True, crop=crop)
        expected = read_image(tmp_path / "p.png", shape, invert=True, crop=crop)
        np.testing.assert_array_equal(image, expected)
    for broken in (b"", b"hello", content[:100]):
        with pytest.raises(DataError, match="picture 7 cannot be read"):
            decode_image(broken, (1, 5, 5), name="picture 7")
    with pytest.raises(ArgumentError, match="three ints"):
        decode_image(content, (5, 5))


def test_only_png_and_jpeg_are_decoded(pil, tmp_path, monkeypatch):
    """Whatever else Pillow reads: for EPS, for one, it starts Ghostscript."""
    for kind in ("gif", "bmp", "tiff", "png", "jpeg"):
        pil.fromarray(pixels(9, 12)).save(tmp_path / "p", kind)
        content = (tmp_path / "p").read_bytes()
        if kind in ("png", "jpeg"):
            assert decode_image(content, (1, 9, 12)).shape == (1, 9, 12)
        else:
            with pytest.raises(DataError, match=r"unknown format.* Expected a PNG or JPEG file"):
                decode_image(content, (1, 9, 12))
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: started.append(a))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n"
    with pytest.raises(DataError, match="unknown format"):
        decode_image(eps, (1, 9, 9))
    assert not started


def test_without_pillow_the_error_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def no_pillow(name, *arguments, **keywords):
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", no_pillow)
    with pytest.raises(MissingPackageError, match="pip install pillow"):
        read_image(tmp_path / "p.png", (1, 28, 28))
    np.save(tmp_path / "a.npy", pixels(28, 28))
    assert read_image(tmp_path / "a.npy", (1, 28, 28)).shape == (1, 28, 28)
