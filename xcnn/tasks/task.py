"""Base class of the tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from .. import data, metrics, models
from .. import functional as F
from ..arrays import Array
from ..checks import (
    are_ints,
    check_choice,
    check_flag,
    check_number,
    check_text,
    check_texts,
    is_int,
)
from ..data import DataSplits, Normalize
from ..data.augment import training_steps
from ..errors import ArgumentError, DataError, did_you_mean, show
from ..nn import LOSSES, Loss, Module
from ..training import Trainer


class Option(NamedTuple):
    """A setting of some tasks, which is an option of ``xcnn train`` too.

    Attributes
    ----------
    type : callable
        Converts the text of the command line.
    default
        Must be what JSON can store.
    text : str
        One line of help.
    metavar : str
        The placeholder for its value in the help.
    low, high : float
        Of a number: from which value to which.
    choices : tuple
        The only values, if any.
    used_by : tuple of str
        The other commands that have the option, instead of the value in training: "predict",
        "evaluate".
    """

    type: Callable[[str], Any]
    default: Any
    text: str
    metavar: str = "X"
    low: float = -1e30  # float32 can still compute with it
    high: float = 1e30
    choices: tuple[Any, ...] = ()
    used_by: tuple[str, ...] = ()

    @property
    def kind(self) -> Any:
        """The type of its values: bool, int, float or str."""
        if self.default is None:
            return self.type if self.type in (int, float) else str
        return type(self.default)

    def check(self, name: str, value: Any) -> Any:
        """The value.

        Raises
        ------
        ArgumentError
            It is of another type, out of range, or none of the choices.
        """
        if value is None and self.default is None:
            return None
        if self.kind is bool:
            value = check_flag(name, value)
        elif self.kind is str:
            value = check_text(name, value)
        else:
            number = check_number(name, value, self.low, self.high)
            if self.kind is int and not is_int(value):
                raise ArgumentError(f"{name}={show(value)}: expected a whole number")
            value = number if self.kind is float else int(value)
        if self.choices and value not in self.choices:
            known = ", ".join(map(str, self.choices))
            raise ArgumentError(f"{name}={show(value)}: expected one of {known}")
        return value


class Exported(NamedTuple):
    """A network as it is exported.

    Attributes
    ----------
    model : Module
    outputs : tuple of str
        Names of the outputs.
    text : str
        What they are, and how to get predictions from them; it is stored in the file.
    input_shape : tuple of int, optional
        Of one input, if it is not that of the task.
    any_size : bool
        Whether the file takes images of any height and width.
    """

    model: Module
    outputs: tuple[str, ...]
    text: str
    input_shape: tuple[int, ...] | None = None
    any_size: bool = False


class Task:
    """Base class of the tasks: all that differs between one and another.

    An instance belongs to some data, and knows what is needed to use a network that was trained on
    them. Subclasses set the attributes of the class and override what is different for them.

    Parameters
    ----------
    classes
        Names of the classes; of a task without classes, of the numbers that are predicted, or none.
    input_shape
        Of one input of the network: (C, H, W), or (F,) for features.
    mean, std, scale
        Of the normalisation of the inputs, see :class:`xcnn.data.Normalize`.
    loss
        One of :attr:`losses`; default: the first.
    **options
        Values for :attr:`options`.

    Attributes
    ----------
    name : str
        What ``xcnn train --task`` calls it.
    text : str
        One line of help.
    networks : sequence of str
        Those of :func:`xcnn.models.names` that it can train; the first is the default.
    datasets : sequence of str
        Those of :func:`xcnn.data.names` that it can be trained on; the first is the default.
        Without any, ``xcnn train`` needs a folder.
    losses : dict
        By name, what the outputs of networks trained with them are; the first is the default.
    measured : sequence of str
        Metrics that are always measured, names in :func:`xcnn.metrics.names`.
    moves : str or None
        What of a target follows the picture when that is augmented, the ``target`` of
        :class:`xcnn.data.WithTarget`: "masks", "boxes", "keypoints"; None: nothing.
    move_settings : dict
        Other arguments of :class:`xcnn.data.WithTarget`.
    options : dict
        By name, the settings that only this task (or some) has.
    from_data : sequence of str
        More arguments of the constructor, which :meth:`of_data` finds in the targets; stored like
        the options.
    has_labels : bool
        Whether the targets are class labels, one or more for each example.
    counts_confusions : bool
        Whether a prediction is one class, so that a report counts which is taken for which.
    defaults : dict
        Values of options of ``xcnn train`` that are better for it than the usual ones, by name:
        "augment", "lr", "schedule", "batch_size"; "betas" of Adam and its relatives; "epochs" for
        few and for many examples, two numbers.
    classes_are : str
        What ``classes`` name, in the plural.
    crops : bool
        Whether pictures of a folder keep their aspect ratio, so that parts of them are cut off;
        else they are resized as a whole.
    image_size : int
        Height and width to which the pictures of a folder are resized by default.

    Raises
    ------
    ArgumentError
        A setting that the task does not take, or of the wrong kind.
    """

    name: ClassVar[str] = ""
    text: ClassVar[str] = ""
    networks: ClassVar[Sequence[str]] = ()
    datasets: ClassVar[Sequence[str]] = ()
    losses: ClassVar[Mapping[str, str]] = {}
    measured: ClassVar[Sequence[str]] = ()
    moves: ClassVar[str | None] = None
    move_settings: Mapping[str, Any] = {}
    options: ClassVar[Mapping[str, Option]] = {}
    from_data: ClassVar[Sequence[str]] = ()
    has_labels: ClassVar[bool] = False
    counts_confusions: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = {}
    classes_are: ClassVar[str] = "classes"
    crops: ClassVar[bool] = True
    image_size: ClassVar[int] = 64

    if TYPE_CHECKING:  # the options

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self,
        classes: Sequence[str] = (),
        input_shape: Sequence[int] = (3, 64, 64),
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        scale: float = 255,
        loss: str | None = None,
        **options: Any,
    ) -> None:
        self.classes = check_texts("classes", classes) if len(classes) else []
        if self.has_labels and not self.classes:
            raise ArgumentError(f"{self.name} needs classes: pass their names")
        if not are_ints(input_shape, len(input_shape)):
            raise ArgumentError(f"input_shape={input_shape}: expected whole numbers above 0")
        self.input_shape = tuple(input_shape)
        self.mean, self.std, self.scale = tuple(mean), tuple(std), scale
        self.normalize = Normalize(self.mean, self.std, scale)
        self.loss = check_choice(
            "loss", next(iter(self.losses)) if loss is None else loss, list(self.losses)
        )
        unknown = options.keys() - self.options
        if unknown:
            known = ", ".join(self.options) or "none"
            raise ArgumentError(f"{self.name} has no option {min(unknown)!r}: it has {known}")
        for name, option in self.options.items():
            setattr(self, name, option.check(name, options.get(name, option.default)))

    @classmethod
    def check_definition(cls) -> None:
        """Refuse a class that lacks what every task needs, when it is registered.

        Raises
        ------
        ArgumentError
        """
        known = list(data.names())
        if not cls.losses or not cls.networks:
            raise ArgumentError(f"task {cls.name}: losses and networks must name one or more")
        for given, names in ((cls.networks, "networks"), (cls.datasets, "datasets")):
            check_texts(f"{cls.name}.{names}", given)
        for name in cls.datasets:
            check_choice(f"{cls.name}.datasets", name, known)
        if cls.create_loss is Task.create_loss:
            for name in cls.losses:
                if name not in LOSSES:
                    raise ArgumentError(
                        f"task {cls.name}: there is no loss {name!r}{did_you_mean(name, LOSSES)}: "
                        "define create_loss for losses of your own"
                    )
        for name, option in cls.options.items():
            of_type = isinstance(option, Option) and option.kind in (bool, int, float, str)
            if not name.isidentifier() or not of_type or option.default is True:
                raise ArgumentError(
                    f"task {cls.name}: options[{name!r}] = {show(option)}: expected an Option "
                    "whose default is a number, a text, False or None"
                )
            option.check(f"{cls.name}.{name}", option.default)

    @classmethod
    def file_options(cls) -> list[str]:
        """The names of the options that are files, by their placeholder FILE."""
        return [name for name, option in cls.options.items() if option.metavar == "FILE"]

    # -- data -------------------------------------------------------------------------------

    @classmethod
    def load_folder(cls, root: str | os.PathLike[str], **settings: Any) -> DataSplits:
        """Load a folder of the user's own data, as training and test splits.

        Parameters
        ----------
        root : path
        **settings
            "size" (H, W), "channels" 1 or 3, "seed" (of what is held out for testing), "limit"
            (number of examples of each split, or None) and "on_error", as for
            :func:`xcnn.data.load_folder`. A dataset whose attribute "paths" lists its files is
            checked when a training goes on.
        """
        raise ArgumentError(
            f"{cls.name} cannot be trained on a folder, because {cls.__name__} does not define "
            f"load_folder: use {' or '.join(cls.datasets) or 'the library'}"
        )

    @classmethod
    def of_data(cls, dataset: DataSplits, loss: str | None = None, **options: Any) -> Task:
        """The task on a dataset.

        Raises
        ------
        ArgumentError
            The task cannot be trained on it.
        """
        scale = dataset.normalize().scale
        shape, mean, std = dataset.image_shape, dataset.mean, dataset.std
        return cls(dataset.classes, shape, mean, std, scale, loss, **options)

    def on_data(self, dataset: DataSplits) -> Task:
        """The same task on another dataset."""
        options = {name: getattr(self, name) for name in self.options}
        return self.of_data(dataset, self.loss, **options)

    def test_folder(
        self, root: str | os.PathLike[str], is_own: bool, **settings: Any
    ) -> tuple[str, data.Dataset]:
        """What to evaluate the network on in a folder, and what to call it.

        That is its test split; without one, what was held out if the network was trained on this
        folder, else all its examples.

        Parameters
        ----------
        root : path
        is_own
            Whether the network was trained on this folder.
        **settings
            As for :meth:`load_folder`.

        Raises
        ------
        DataError
            The folder has other classes.
        """
        found = self.load_folder(root, **settings)
        if found.classes != self.classes:
            raise DataError(
                f"{root} has the classes {', '.join(found.classes)}, but the network was trained "
                f"on {', '.join(self.classes)}"
            )
        parts = [
            part.dataset for part in (found.train, found.test) if isinstance(part, data.Subset)
        ]
        if not is_own and len(parts) == 2 and parts[0] is parts[1]:
            return "all pictures", parts[0]  # the network was not trained on some of them
        return "test", found.test

    def settings(self) -> dict[str, Any]:
        """The arguments that create the task again, and its name as "task"; for JSON."""
        names = ("classes", "input_shape", "mean", "std", "scale", "loss", *self.options)
        names += tuple(self.from_data)
        found = {name: getattr(self, name) for name in names}
        listed = {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
        return {"task": self.name, **listed}

    def transform(self, augment: str | None = None) -> Any:
        """The transform of batches (x, y) of the data into what the network and the loss take.

        Parameters
        ----------
        augment
            For training: names in ``xcnn.data.augment.RECIPES`` separated by commas, or "none".
            None for evaluation, in which all is as it is each time.
        """
        return data.Compose(self.steps(augment))

    def steps(self, augment: str | None) -> list[Any]:
        """The parts of :meth:`transform`: augmentation with what moves along, normalisation."""
        augment = augment or "none"
        if augment != "none" and len(self.input_shape) != 3:
            raise ArgumentError(f"augment={augment!r} changes images, not features: use none")
        given = augment, self.input_shape[1:], len(self.classes), self.normalize, self.moves
        return training_steps(*given, **self.move_settings)

    # -- network ----------------------------------------------------------------------------

    @classmethod
    def default_network(cls, kind: str) -> str:
        """The network that is trained on "images" or "features" if none is asked for."""
        return cls.networks[0]

    def create_model(self, network: str) -> Module:
        """A new network with the output that fits the loss."""
        return self.with_output(self.create_network(network))

    def create_network(self, network: str) -> Module:
        """What :func:`xcnn.models.create` returns: the network whose weights a file may have."""
        model: Module = models.create(
            network, num_classes=len(self.classes), input_shape=self.input_shape
        )
        return model

    def with_output(self, model: Module) -> Module:
        """The network, followed by the output layer that the loss needs, if any."""
        return model

    def create_loss(self) -> Loss:
        """The loss, a new object."""
        return LOSSES[self.loss]()

    # -- results ----------------------------------------------------------------------------

    def result(self, values: Mapping[str, Any], count: int) -> str:
        """What was measured, in words.

        Parameters
        ----------
        values
            As :meth:`xcnn.Trainer.evaluate` returns.
        count
            Number of examples.
        """
        measured = [f"{metrics.title(name)} {values[name]:.4f}" for name in self.measured]
        return ", ".join(measured) or f"loss {values['loss']:.4f}"

    # -- predictions --------------------------------------------------------------------------

    def read(self, path: str | os.PathLike[str], invert: bool = False, crop: bool = False) -> Array:
        """The pixels of a file to predict, uint8 (C, H, W): in the shape of the inputs, or its own.

        Parameters
        ----------
        path : path
        invert
            Invert the pixels.
        crop
            Whether the network was trained on pictures that keep their aspect ratio.
        """
        shape: Any = self.input_shape
        return data.read_image(path, shape, invert, crop=crop)

    def resized(self, pixels: Array) -> Array:
        """A picture (C, H, W) of any size as an input (1, C, H, W), resized as a whole."""
        x, size = self.normalize(pixels[None]), self.input_shape[1:]
        return F.interpolate(x, size, mode="bilinear", antialias=True).numpy()

    def predict(self, trainer: Trainer, x: Array) -> list[Any]:
        """The predictions of inputs (N, ...) that :meth:`transform` has made."""
        return list(trainer.predict(x))

    def predict_one(self, trainer: Trainer, pixels: Array) -> Any:
        """The prediction of a picture that :meth:`read` returned, in its own size."""
        return self.predict(trainer, self.normalize(pixels[None]))[0]

    def truth(self, y: Any) -> list[Any]:
        """The targets of a batch, each in the form of a prediction."""
        return list(y)

    def describe(self, prediction: Any, top: int = 3) -> str:
        """A prediction in one line; of classes, the ``top`` most probable ones; default: empty."""
        return ""

    def compare(self, prediction: Any, target: Any) -> str:
        """A prediction beside its target in one line, for a report; "✗" in front: it is wrong.

        Parameters
        ----------
        prediction
            From :meth:`predict`.
        target
            From :meth:`truth`.
        """
        return f"{self.describe(prediction)} (target: {self.describe(target)})"

    def legend(self) -> dict[str, str]:
        """What the colours of :meth:`draw` stand for: colours such as "#e69f00" by name."""
        return {}

    def draw(self, pixels: Array, prediction: Any) -> Array | None:
        """A picture of a prediction, uint8 (3, H, W) or (1, H, W); None if words say it all.

        Parameters
        ----------
        pixels
            The picture as it is stored or was read, uint8 (C, H, W).
        prediction
            From :meth:`predict` or :meth:`truth`.
        """
        return None

    def files(self, prediction: Any) -> dict[str, bytes]:
        """Other files that ``xcnn predict`` writes, by the ending of their name."""
        return {}

    def show(self, pixels: Array, x: Array, y: Any, prediction: Any) -> dict[str, Array]:
        """Pictures of an example side by side, uint8 (C, H, W) by title, for a report.

        Parameters
        ----------
        pixels
            As for :meth:`draw`.
        x
            The input of the network (C, H, W), which :meth:`transform` has made.
        y
            Its target in the form of a prediction, from :meth:`truth`.
        prediction
            From :meth:`predict`.
        """
        drawn = {"Target": self.draw(pixels, y), "Prediction": self.draw(pixels, prediction)}
        return {"Picture": pixels, **{k: v for k, v in drawn.items() if v is not None}}

    def samples(self, trainer: Trainer, count: int = 64, seed: int = 0) -> Array | None:
        """New examples that the network draws, as a picture uint8 (C, H, W); None: none."""
        return None

    # -- ONNX -------------------------------------------------------------------------------

    def exported(self, model: Module, postprocess: bool = False) -> Exported:
        """The network as it is exported.

        Parameters
        ----------
        model
            The trained network.
        postprocess
            Whether the file computes predictions rather than the network's outputs.

        Raises
        ------
        ArgumentError
            The task has no step after the network that a file could compute.
        """
        if postprocess:
            raise ArgumentError(f"{self.name} has no post-processing: export without it")
        return Exported(model, ("output",), self.losses[self.loss])

    def __repr__(self) -> str:
        settings = {k: v for k, v in self.settings().items() if k != "task"}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"
