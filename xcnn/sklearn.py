"""Networks as scikit-learn estimators; needs ``pip install xcnn[sklearn]``.

>>> from xcnn.sklearn import CNNClassifier
>>> scores = cross_val_score(CNNClassifier(epochs=5, random_state=0), images, labels)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Self

import numpy as np

from . import data, models, nn, optim, random, schedules
from .arrays import Array
from .checks import check_choice, check_number
from .data import augment
from .errors import ArgumentError, MissingPackageError, ShapeError
from .tensor import Tensor
from .training import Trainer, callbacks

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted
except ImportError as error:
    raise MissingPackageError(
        f"xcnn.sklearn needs the package scikit-learn ({error}): pip install 'xcnn[sklearn]'"
    ) from error
try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before scikit-learn 1.6

    def validate_data(estimator: Any, *arrays: Any, **settings: Any) -> Any:
        """Check the input of an estimator."""
        return estimator._validate_data(*arrays, **settings)


__all__ = ["CNNClassifier", "CNNRegressor"]

_DTYPES = [np.float32, *map(np.dtype, "bBhHiIlLqQ")]  # others are converted to the first
_ONE_FIT = threading.RLock()  # a fit draws from the library's generator, which threads share
_SCHEDULES: dict[str, Callable[..., Any]] = {
    "cosine": lambda optimizer, epochs, steps: schedules.CosineAnnealingLR(optimizer, epochs),
    "onecycle": lambda optimizer, epochs, steps: schedules.OneCycleLR(
        optimizer,
        optimizer.lr,
        epochs * steps,
        cycle_momentum=not {"betas", "momentum"}.isdisjoint(optimizer.defaults),
    ),
}


@dataclass(eq=False, repr=False)
class _Estimator(BaseEstimator):
    """What classifiers and regressors have in common; a field is a parameter."""

    _default_loss: ClassVar[str]
    _loss_targets: ClassVar[tuple[str, ...]]
    _y_checks: ClassVar[dict[str, bool]] = {}
    _doc_link_module = "xcnn"
    _doc_link_template = "https://github.com/xcnn-dev/xcnn/blob/main/docs/sklearn.md"

    model: Any = None
    _: KW_ONLY
    input_shape: tuple[int, ...] | None = None
    scale: float | str = "auto"
    augment: Any = None
    loss: Any = None
    optimizer: Any = "adam"
    lr: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    epochs: int = 20
    batch_size: int = 32
    validation_fraction: float | None = None
    early_stopping: bool = False
    patience: int = 5
    metrics: Sequence[Any] = ()
    callbacks: Sequence[Any] = ()
    warm_start: bool = False
    device: str = "auto"
    random_state: Any = None
    verbose: int = 0

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for ``epochs`` epochs: anew or, with ``warm_start``, from where the last fit ended.

        Parameters
        ----------
        X
            Examples: pictures (N, C, H, W), or (N, H, W) with one channel, or features (N, F).
            Finite integers or floats, computed in float32.
        y
            For classification, labels (N,), numbers or strings; for regression, (N,) or
            (N, outputs).
        sample_weight
            (N,): weights of the examples in the loss, relative to their mean. The history then has
            no accuracy.

        Raises
        ------
        ValueError, TypeError
            Data or parameters that cannot be used; usually a subclass from ``xcnn.errors``.
        DivergenceError
            The training diverged: lower ``lr``, or scale the data.
        """
        return self._fit(X, y, sample_weight)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, classes: Any = None, partial: bool = False
    ) -> Self:
        goes_on = hasattr(self, "model_") and (partial or self.warm_start)
        X, y = validate_data(
            self, X, y, reset=not goes_on, dtype=_DTYPES, allow_nd=True, **self._y_checks
        )
        if not goes_on:
            self._shape = X.shape[1:]
            self.input_shape_ = tuple(self.input_shape or (*[1] * (X.ndim == 3), *self._shape))
        X = self._examples(X)
        target, outputs = self._encode(y, goes_on, classes)
        class_weight = self._class_weights(y)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=np.float32, ensure_non_negative=True
            )
            sample_weight = sample_weight / sample_weight.mean()
            if class_weight is not None:
                sample_weight *= class_weight[target]
                class_weight = None
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with _seeded(seed):
            model = self.model_ if goes_on else self._create_model(outputs)
            loss = self._create_loss(model.to(self.device), X[:1], outputs)
            loader, validation = self._loaders(X, target, sample_weight, outputs, seed, partial)
            optimizer = getattr(self, "_optimizer", None) if partial and goes_on else None
            optimizer = optimizer or self._create_optimizer(model)
            trainer = Trainer(
                model,
                optimizer,
                loss if sample_weight is None else _weighted(loss),
                schedule=None if partial else self._create_schedule(optimizer, len(loader)),
                metrics=self.metrics,
            )
            trainer.history[:] = self.history_ if goes_on else []
            used = list(self.callbacks)
            if self.early_stopping and not partial:
                monitor = "train_loss" if validation is None else "val_loss"
                used.append(callbacks.EarlyStopping(monitor, self.patience, restore_best=True))
            with model.backend.quiet_overflow():  # a training that diverges raises an error
                trainer.fit(
                    loader,
                    epochs=1 if partial else self.epochs,
                    validation=validation,
                    callbacks=used,
                    progress=bool(self.verbose),
                    class_weight=class_weight,
                )
        self.model_, self._loss = model, loss
        self._optimizer = optimizer if partial else None
        self.history_, self.n_iter_ = trainer.history, len(trainer.history)
        return self

    def _predict(self, X: Any) -> Array:
        check_is_fitted(self, "model_")
        X = self._examples(validate_data(self, X, reset=False, dtype=_DTYPES, allow_nd=True))
        loader = data.DataLoader(X, batch_size=256, transform=self._scaling(X))
        return Trainer(self.model_.to(self.device), loss=self._loss).predict(loader)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles have their arrays on the CPU, and no optimiser."""
        state = {**super().__getstate__(), "_optimizer": None}
        for name in ("model_", "_loss"):
            if name in state and state[name].device != "cpu":
                state[name] = deepcopy(state[name]).to("cpu")
        return state

    # -- data -------------------------------------------------------------------------------

    def _examples(self, X: Array) -> Array:
        """``X`` in the shape that the model takes."""
        if X.shape[1:] != self._shape:
            raise ShapeError(
                f"X has shape {X.shape}: expected (N, {', '.join(map(str, self._shape))}), as in "
                "fit"
            )
        if math.prod(self._shape) != math.prod(self.input_shape_):
            raise ShapeError(
                f"input_shape={self.input_shape}: X has shape {X.shape}, which is not that many "
                "numbers per example"
            )
        return X.reshape(len(X), *self.input_shape_)

    def _encode(self, y: Array, goes_on: bool, classes: Any) -> tuple[Array, int]:
        raise NotImplementedError

    def _class_weights(self, y: Array) -> Any:
        return None

    def _scaling(self, X: Array) -> data.Normalize:
        """The transform that divides by ``scale``."""
        scale: Any = self.scale
        if isinstance(scale, str):
            check_choice("scale", scale, ("auto",))
            scale = 255 if X.ndim == 4 and X.dtype.kind in "iu" else 1
        return data.Normalize(0, 1, check_number("scale", scale, 0, above=True))

    def _augmentations(self, outputs: int) -> list[Any]:
        if not isinstance(self.augment, str):
            return [] if self.augment is None else [self.augment]
        names = augment.recipe_names(self.augment)
        if names and len(self.input_shape_) != 3:
            raise ArgumentError(f"augment={self.augment!r} changes pictures, but X has features")
        return [augment.RECIPES[name].make(self.input_shape_[1:], outputs) for name in names]

    def _loaders(
        self, X: Array, target: Array, weight: Any, outputs: int, seed: int, partial: bool
    ) -> tuple[data.DataLoader, data.DataLoader | None]:
        """The examples to train on, and those held out for validation."""
        scaling, changes = self._scaling(X), self._augmentations(outputs)
        if weight is not None and any(isinstance(change, data.Mixing) for change in changes):
            raise ArgumentError(
                f"augment={self.augment!r} mixes examples, whose sample_weight may differ: leave "
                "one of the two out"
            )
        train: Any = data.ArrayDataset(X, target if weight is None else (weight, target))
        fraction = self.validation_fraction
        if fraction is None:
            fraction = 0.1 if self.early_stopping else 0
        held_out = None
        if fraction and not partial:
            stratify = target if target.ndim == 1 else None
            train, held_out = data.split(train, fraction, seed, stratify)
        loader = data.DataLoader(
            train,
            batch_size=self.batch_size,
            shuffle=True,
            seed=seed,
            transform=data.Compose([scaling, *changes]),
        )
        # batch norm has no variance of one example
        loader.drop_last = len(train) % loader.batch_size == 1 < len(train)
        if held_out is None:
            return loader, None
        return loader, data.DataLoader(held_out, batch_size=256, transform=scaling)

    # -- parameters -------------------------------------------------------------------------

    def _create_model(self, outputs: int) -> nn.Module:
        model, shape = self.model, self.input_shape_
        if isinstance(model, nn.Module):
            return deepcopy(model)
        if callable(model):
            return model(outputs, shape)
        if model is None:
            smallest = min(shape[1:], default=0)
            model = "lenet5" if smallest >= 12 else "small_cnn" if smallest >= 4 else "mlp"
        check_choice("model", model, models.classifiers())
        return models.create(model, num_classes=outputs, input_shape=shape)

    def _create_loss(self, model: nn.Module, example: Array, outputs: int) -> nn.Loss:
        """The loss; checks that it suits the estimator, and the model's output the loss."""
        loss = self._default_loss if self.loss is None else deepcopy(self.loss)
        trainer = Trainer(model, loss=loss)
        if trainer.loss.target not in self._loss_targets:
            raise ArgumentError(
                f"loss={self.loss!r}: {type(self).__name__} needs a loss of "
                f"{self._loss_targets[0]}, such as {self._default_loss!r}"
            )
        found = trainer.predict(data.DataLoader(example, transform=self._scaling(example))).shape
        if found != (1, outputs):
            raise ShapeError(
                f"the model returns {found} for one example: expected (1, {outputs}), one number "
                "per class or output"
            )
        return trainer.loss.to(self.device)

    def _create_optimizer(self, model: nn.Module) -> optim.Optimizer:
        create: Any = self.optimizer
        if not callable(create):
            create = optim.BY_NAME[check_choice("optimizer", create, list(optim.BY_NAME))]
        settings = {"lr": self.lr, "weight_decay": self.weight_decay}
        return create(model.parameters(), **{k: v for k, v in settings.items() if v is not None})

    def _create_schedule(self, optimizer: optim.Optimizer, steps: int) -> Any:
        if self.schedule is None or not self.epochs:
            return None
        create = _SCHEDULES[check_choice("schedule", self.schedule, list(_SCHEDULES))]
        return create(optimizer, self.epochs, steps)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the library's random generator; afterwards it is as it was."""
    with _ONE_FIT:
        before = random.get_state()
        random.manual_seed(seed)
        try:
            yield
        finally:
            random.set_state(before)


def _weighted(loss: nn.Loss) -> Callable[..., Tensor]:
    """The mean of ``loss`` over a batch whose targets are (weights, targets)."""
    loss.reduction = "none"

    def mean(output: Tensor, target: Any) -> Tensor:
        weight, y = target
        terms = loss(output, y)
        return (terms.reshape(len(weight), -1).mean(1) * weight).mean()

    return mean


@dataclass(eq=False, repr=False)
class CNNClassifier(ClassifierMixin, _Estimator):
    """A network that classifies pictures or features, as a scikit-learn estimator.

    Parameters
    ----------
    model
        Name in ``xcnn.models.classifiers()``; a function of (number of outputs, shape of an
        example) that returns a Module, such as a subclass; or a Module, whose copies are trained
        from its weights on. None: "lenet5", "small_cnn" for pictures below 12×12 pixels, "mlp" for
        features.
    input_shape
        Shape of an example, (C, H, W), if it differs from that of ``X``: flat pictures (N, C·H·W),
        as other estimators take them. None: that of ``X``.
    scale
        What ``X`` is divided by. "auto": 255 for pictures of integers, 1 for anything else.
        Standardise features with a ``StandardScaler``.
    augment
        For training only: names in ``xcnn.data.augment.RECIPES`` separated by commas, such as
        "flip,crop"; or a transform of ``xcnn.data``. It gets ``X`` divided by ``scale``.
    loss
        "cross_entropy", "nll" for models that return log-probabilities, or an object, such as
        ``nn.CrossEntropyLoss(label_smoothing=0.1)``. None: "cross_entropy".
    optimizer
        Name in ``xcnn.optim.BY_NAME``; or a function of the parameters, and of ``lr`` and
        ``weight_decay`` unless None, such as ``functools.partial(optim.SGD, momentum=0.9)``.
    lr, weight_decay
        Settings of the optimiser. None: its defaults.
    schedule
        "cosine": the learning rate falls to zero; "onecycle": it rises to ``lr`` first, see
        :class:`xcnn.schedules.OneCycleLR`. None: it is constant.
    epochs
        Passes over the data.
    batch_size
        Examples per step. If one example is left over at the end of an epoch, it is left out.
    validation_fraction
        Fraction of the examples to hold out for validation, of each class alike. None: 0.1 with
        ``early_stopping``, else 0.
    early_stopping
        End the training when the validation loss (without validation, the training loss) has not
        improved for ``patience`` epochs, with the weights of the best one.
    patience
        See ``early_stopping``.
    metrics
        Names in ``xcnn.metrics.names()`` or objects, measured in each epoch.
    callbacks
        Objects of ``xcnn.callbacks``, or functions ``f(trainer, epoch)``. They are used as they
        are, not copied.
    warm_start
        Whether ``fit`` goes on with the weights of the last one, with a new optimiser.
    device
        "cpu", "cuda", "cuda:N" or "auto": a GPU if there is one.
    random_state
        None, an int or a ``numpy.random.RandomState``: decides weights, order, dropout and
        augmentation. An int gives the same bits each time.
    verbose
        Whether to show a progress bar for each epoch (only on a terminal or in a notebook).
    class_weight
        Weights of the classes in the loss: "balanced", inversely proportional to their
        frequencies; or {label: weight}, 1 for those not named.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    model_ : xcnn.nn.Module
        The trained network.
    history_ : list of xcnn.Epoch
        Loss, accuracy and metrics of each epoch; ``history_.to_csv()`` is a table.
    n_iter_ : int
        Number of epochs trained.
    n_features_in_ : int
        ``X.shape[1]``: the features, or for pictures the first axis of one.
    input_shape_ : tuple of int
        Shape of an example as the network takes it.

    Examples
    --------
    >>> classifier = CNNClassifier("resnet20", epochs=30, augment="flip,crop", schedule="cosine")
    >>> classifier.fit(x_train, y_train).score(x_test, y_test)
    """

    _: KW_ONLY
    class_weight: Any = None

    _default_loss = "cross_entropy"
    _loss_targets = ("classes",)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on a part of the data; the next call goes on from there.

        ``schedule``, ``validation_fraction`` and ``early_stopping`` do not apply.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        classes
            All labels of the whole data, for the first call. None: those in ``y``.

        Raises
        ------
        ValueError, TypeError, DivergenceError
            As for :meth:`fit`.
        """
        return self._fit(X, y, sample_weight, classes, partial=True)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, in the order of ``classes_``: float32 (N, C)."""
        return self._predict(X)

    def predict(self, X: Any) -> Array:
        """The most probable label of each example, (N,)."""
        return self.classes_[self._predict(X).argmax(axis=1)]

    def _encode(self, y: Array, goes_on: bool, classes: Any) -> tuple[Array, int]:
        """The indices of the labels, and the number of classes."""
        check_classification_targets(y)
        if not goes_on:
            self.classes_ = np.unique(y if classes is None else classes)
        if len(self.classes_) < 2:
            raise ArgumentError(
                f"y has one class, {self.classes_[0]!r}: a classifier needs at least two"
            )
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ArgumentError(
                f"y has labels that are not among the classes {self.classes_}: {unknown}; pass all "
                "as classes to the first partial_fit, or fit anew without warm_start"
            )
        return np.searchsorted(self.classes_, y), len(self.classes_)

    def _class_weights(self, y: Array) -> Any:
        """The weights of the classes, (C,)."""
        if self.class_weight is None:
            return None
        return compute_class_weight(self.class_weight, classes=self.classes_, y=y)


@dataclass(eq=False, repr=False)
class CNNRegressor(RegressorMixin, _Estimator):
    """A network that predicts numbers from pictures or features, as a scikit-learn estimator.

    Parameters
    ----------
    model, input_shape, scale, augment, optimizer, lr, weight_decay, schedule, epochs, batch_size
        As for :class:`CNNClassifier`.
    validation_fraction, early_stopping, patience, metrics, callbacks, warm_start, device
        As for :class:`CNNClassifier`.
    random_state, verbose
        As for :class:`CNNClassifier`.
    loss
        "mse", "l1", "huber" or another loss of values in ``xcnn.nn.LOSSES``; an object such as
        ``nn.HuberLoss(delta=0.1)``; or a function of (output, target), Tensors and arrays
        (N, outputs), that returns their mean loss. None: "mse".

    Attributes
    ----------
    model_, history_, n_iter_, n_features_in_, input_shape_
        As for :class:`CNNClassifier`.

    Examples
    --------
    >>> regressor = make_pipeline(StandardScaler(), CNNRegressor(epochs=50, random_state=0))
    >>> regressor.fit(X_train, y_train).score(X_test, y_test)
    """

    _default_loss = "mse"
    _loss_targets = ("values", "custom")
    _y_checks = {"multi_output": True, "y_numeric": True}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on a part of the data; see :meth:`CNNClassifier.partial_fit`."""
        return self._fit(X, y, sample_weight, partial=True)

    def predict(self, X: Any) -> Array:
        """The predicted numbers, in the shape of ``y``: float64 if ``y`` was, else float32."""
        return self._predict(X).reshape(-1, *self._y_shape).astype(self._y_dtype)

    def _encode(self, y: Array, goes_on: bool, classes: Any) -> tuple[Array, int]:
        """The targets (N, outputs), and the number of outputs."""
        self._y_shape = y.shape[1:]
        self._y_dtype = "float64" if y.dtype == "float64" else "float32"
        target = y.reshape(len(y), -1).astype(np.float32)
        return target, target.shape[1]
