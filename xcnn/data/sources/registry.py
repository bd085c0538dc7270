"""The data sets that the library knows: one record each."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ArgumentError
from .cifar import ARCHIVE
from .files import Digest
from .idx import STEMS


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: its name on the mirrors, its size there in bytes, its digest."""

    name: str
    size: int
    digest: Digest


@dataclass(frozen=True)
class Info:
    """What is known of a data set before it is loaded.

    Attributes
    ----------
    name : str
        What :func:`xcnn.data.load` calls it.
    title : str
        One line on what it holds.
    kind : str
        ``"images"``: uint8 (N, C, H, W), or ``"features"``: float32 (N, F).
    origin : str
        ``"embedded"`` in the library, ``"generated"`` when loaded, or the format of its files,
        ``"idx"`` or ``"cifar"``.
    classes : tuple of str
        Name of each label, from 0.
    shape : tuple of int
        Of one item: (C, H, W) or (F,).
    counts : tuple of int
        Items for training and for testing.
    mean, std : tuple of float
        Of each channel over the training images, pixels divided by 255; of each feature as it is.
    credit : str
        Who made it, and its licence.
    files : tuple of RemoteFile
        What is downloaded.
    mirrors : tuple of str
        URLs of the folders that hold ``files``.
    folders : tuple of str
        Names of folders that may hold it, besides its own name.
    """

    name: str
    title: str
    kind: str
    origin: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    counts: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    credit: str
    files: tuple[RemoteFile, ...] = ()
    mirrors: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    @property
    def download_size(self) -> int:
        """Bytes to download; 0 for what needs no files."""
        return sum(file.size for file in self.files)


def _idx_files(
    algorithm: str, unpacked: bool, entries: list[tuple[int, str]]
) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(f"{stem}.gz", size, Digest(algorithm, value, unpacked))
        for stem, (size, value) in zip(STEMS, entries, strict=True)
    )


_DIGITS = tuple("0123456789")

_RECORDS = (
    Info(
        name="digits",
        title="handwritten digits, 8×8 enlarged to 32×32",
        kind="images",
        origin="embedded",
        classes=_DIGITS,
        shape=(1, 32, 32),
        counts=(1437, 360),
        mean=(0.3050,),
        std=(0.3234,),
        credit="E. Alpaydin and C. Kaynak, UCI, 1998, doi:10.24432/C50P49, CC BY 4.0",
    ),
    Info(
        name="mnist",
        title="handwritten digits",
        kind="images",
        origin="idx",
        classes=_DIGITS,
        shape=(1, 28, 28),
        counts=(60000, 10000),
        mean=(0.1307,),
        std=(0.3081,),
        credit="Y. LeCun, C. Cortes and C. J. C. Burges, CC BY-SA 3.0",
        files=_idx_files(
            "sha256",
            True,
            [
                (9912422, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
                (28881, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
                (1648877, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
                (4542, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
            ],
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        folders=("MNIST/raw",),
    ),
    Info(
        name="fashion-mnist",
        title="pictures of clothes, in the format of MNIST",
        kind="images",
        origin="idx",
        classes=(
            "T-shirt/top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        shape=(1, 28, 28),
        counts=(60000, 10000),
        mean=(0.2860,),
        std=(0.3530,),
        credit="H. Xiao, K. Rasul and R. Vollgraf, Zalando, 2017, MIT licence",
        files=_idx_files(
            "md5",
            False,
            [
                (26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                (29515, "25c81989df183df01b3e8a0aad5dffbe"),
                (4422102, "bef4ecab320f06d8554ea6380940ec79"),
                (5148, "bb300cfdad3c16e7a12a480ee83cd310"),
            ],
        ),
        mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        folders=("FashionMNIST/raw",),
    ),
    Info(
        name="cifar10",
        title="small colour photographs of 10 kinds of things",
        kind="images",
        origin="cifar",
        classes=(
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
        shape=(3, 32, 32),
        counts=(50000, 10000),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        credit="A. Krizhevsky, V. Nair and G. Hinton, University of Toronto, 2009",
        files=(RemoteFile(ARCHIVE, 170052171, Digest("md5", "c32a1d4ab5d03f1284b67883e8d87530")),),
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        # official copies first: the last one is a smaller set of re-encoded pictures
        folders=("cifar10/cifar-10-batches-bin", "cifar-10-batches-bin", "cifar10-jpeg"),
    ),
    Info(
        name="moons",
        title="two interleaved half circles, 2 features",
        kind="features",
        origin="generated",
        classes=("upper", "lower"),
        shape=(2,),
        counts=(1000, 400),
        mean=(0.5171, 0.2469),
        std=(0.8764, 0.4980),
        credit="drawn by xcnn",
    ),
    Info(
        name="cross",
        title="crosses against other strokes, a calibration pattern",
        kind="images",
        origin="generated",
        classes=("other", "cross"),
        shape=(1, 16, 16),
        counts=(4000, 1000),
        mean=(0.1130,),
        std=(0.2266,),
        credit="drawn by xcnn",
    ),
)

_BY_NAME = {record.name: record for record in _RECORDS}


def names() -> list[str]:
    """Names of all data sets, as :func:`xcnn.data.load` takes them."""
    return list(_BY_NAME)


def info(name: str) -> Info:
    """What is known of the data set ``name`` before it is loaded.

    Raises
    ------
    ArgumentError
        If there is no data set of that name.
    """
    if name not in _BY_NAME:
        raise ArgumentError(f"there is no data set {name!r}; choose one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def owner(sha256: str) -> str | None:
    """Name of the data set that a file belongs to, by the SHA-256 of its unpacked bytes."""
    for record in _RECORDS:
        for file in record.files:
            if file.digest == Digest("sha256", sha256, unpacked=True):
                return record.name
    return None
