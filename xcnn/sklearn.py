"""Networks as scikit-learn estimators; needs ``pip install xcnn[sklearn]``.

Examples
--------
>>> from sklearn.datasets import load_digits
>>> from sklearn.model_selection import cross_val_score
>>> from xcnn.sklearn import CNNClassifier
>>> images, labels = load_digits().images[:200], load_digits().target[:200]
>>> classifier = CNNClassifier(scale=16, epochs=2, random_state=0)
>>> scores = cross_val_score(classifier, images, labels, cv=2)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np

from . import data, models, nn, optim, random
from .arrays import Array
from .checks import check_choice, check_number, check_shape
from .errors import ArgumentError, MissingPackageError, ShapeError, show
from .schedules import CosineAnnealingLR, OneCycleLR
from .tensor import Buffer, Tensor
from .training import History, Trainer, callbacks

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import class_weight as weights
    from sklearn.utils import multiclass, validation
except ImportError as error:
    raise MissingPackageError(
        f"xcnn.sklearn needs the package scikit-learn ({error}): pip install 'xcnn[sklearn]'"
    ) from error

__all__ = ["CNNClassifier", "CNNRegressor"]

# before scikit-learn 1.6 a method
_validate = getattr(validation, "validate_data", None) or BaseEstimator._validate_data
_DTYPES = [np.float32, *map(np.dtype, "bBhHiIlLqQ")]  # others are converted to the first
_ONE_FIT = threading.RLock()  # a fit draws from the library's generator, which threads share
#: the schedule for (optimizer, epochs, steps per epoch)
_SCHEDULES: dict[str, Callable[..., Any]] = {
    "cosine": lambda opt, epochs, _: CosineAnnealingLR(opt, epochs),
    "onecycle": lambda opt, epochs, n: OneCycleLR(opt, opt.lr, epochs * n, cycle_momentum=False),
}


@dataclass(eq=False, repr=False)
class _Estimator(BaseEstimator):
    """What classifiers and regressors have in common; a field is a parameter."""

    _doc_link_module = "xcnn"
    _doc_link_template = "https://github.com/xcnn-dev/xcnn/blob/main/docs/sklearn.md"

    model: Any = None
    _: KW_ONLY
    input_shape: tuple[int, ...] | None = None
    scale: float | str = "auto"
    augment: Any = None
    loss: Any = "mse"
    optimizer: Any = "adam"
    lr: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    epochs: int = 20
    batch_size: int = 32
    early_stopping: bool = False
    validation_fraction: float = 0.1
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

    def _fit(self, X: Any, y: Any, weight: Any, classes: Any = None, partial: bool = False) -> Self:
        goes_on = hasattr(self, "model_") and (partial or self.warm_start)
        numeric = isinstance(self, RegressorMixin)
        checks = {"multi_output": numeric, "y_numeric": numeric, "reset": not goes_on}
        X, y = _validate(self, X, y, dtype=_DTYPES, allow_nd=True, **checks)
        if not goes_on:
            self._shape = X.shape[1:]
            shape = self._shape if X.ndim != 3 else (1, *self._shape)
            self.input_shape_ = check_shape("input_shape", self.input_shape or shape)
            pictures = len(self.input_shape_) == 3 and X.dtype.kind in "iu"
            scale = (255 if pictures else 1) if self.scale == "auto" else self.scale
            self._scaling = data.Normalize(0, 1, check_number("scale", scale, 0, above=True))
        X = self._examples(X)
        target, self._outputs = self._encode(y, goes_on, classes)
        if weight is not None:
            weight = validation._check_sample_weight(weight, X, dtype=np.float32)
            if weight.min() < 0 or not weight.any():
                raise ArgumentError("sample_weight: expected no number below 0, and one above")
            target = (weight / weight.mean(), target)
        seed = int(validation.check_random_state(self.random_state).randint(2**31 - 1))
        with _seeded(seed + (len(self.history_) if goes_on else 0)):  # new dropout masks
            model = self.model_ if goes_on else self._create_model()
            loss = self._create_loss(model, self._scaling(X[:1]), y)
            changes = self._create_augmentations()
            mixes = any(isinstance(change, data.Mixing) for change in changes)
            if weight is not None and (mixes or self.metrics or loss.target == "custom"):
                other = "metrics, MixUp, CutMix or a function as the loss"
                raise ArgumentError(f"sample_weight cannot be used with {other}: leave one out")
            kept = self._optimizer if partial and goes_on else None
            optimizer = kept or self._create_optimizer(model)
            function = loss if weight is None else _weighted(loss)
            trainer = Trainer(model, optimizer, function, metrics=self.metrics)
            trainer.history[:] = self.history_ if goes_on else []
            with model.backend.quiet_overflow():  # a training that diverges raises an error
                self._train(trainer, data.ArrayDataset(X, target), changes, seed, partial)
        self._loss = loss
        self._optimizer: optim.Optimizer | None = optimizer if partial else None
        self.model_: nn.Module = model
        self.history_: History = trainer.history
        self.n_iter_ = len(trainer.history)
        return self

    def _train(self, trainer: Trainer, train: Any, changes: list, seed: int, partial: bool) -> None:
        """Fit the model, and hold out some of the examples for early stopping."""
        held_out, used = None, list(self.callbacks)
        if self.early_stopping and not partial:
            by_class = isinstance(self, ClassifierMixin)
            train, rest = data.split(train, self.validation_fraction, seed, by_class)
            held_out = data.DataLoader(rest, batch_size=256, transform=self._scaling)
            used.append(callbacks.EarlyStopping("val_loss", self.patience, restore_best=True))
        loader = data.DataLoader(train, self.batch_size, shuffle=True, seed=seed)
        loader.transform = data.Compose([self._scaling, *changes])
        # batch norm has no variance of one example
        loader.drop_last = len(train) % self.batch_size == 1 < len(train)
        if self.schedule is not None and not partial:
            create = _SCHEDULES[check_choice("schedule", self.schedule, list(_SCHEDULES))]
            trainer.schedule = create(trainer.optimizer, self.epochs, len(loader))
        shown, epochs = bool(self.verbose), 1 if partial else self.epochs
        trainer.fit(loader, None, epochs, validation=held_out, callbacks=used, progress=shown)
        for parameter in trainer.model.parameters():
            parameter.grad = None  # pickles would hold it

    def _predict(self, X: Any) -> Array:
        validation.check_is_fitted(self, "model_")
        X = self._examples(_validate(self, X, reset=False, dtype=_DTYPES, allow_nd=True))
        loader = data.DataLoader(X, batch_size=256, transform=self._scaling)
        return Trainer(self.model_.to(self.device), loss=self._loss).predict(loader)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles have their arrays on the CPU, and no optimiser."""
        state = {**super().__getstate__(), "_optimizer": None}
        for name in {"model_", "_loss"} & state.keys():
            state[name] = deepcopy(state[name]).to("cpu")
        return state

    # -- data -------------------------------------------------------------------------------

    def _encode(self, y: Array, goes_on: bool, classes: Any) -> tuple[Array, int]:
        """The targets of the loss, and the number of outputs."""
        raise NotImplementedError

    def _examples(self, X: Array) -> Array:
        """``X`` in the shape that the model takes."""
        if X.shape[1:] != self._shape:
            raise ShapeError(f"X has examples of shape {X.shape[1:]}, in fit it was {self._shape}")
        if X[0].size != np.prod(self.input_shape_):
            raise ShapeError(f"input_shape={self.input_shape}: X has shape {X.shape}")
        return X.reshape(len(X), *self.input_shape_)

    def _create_augmentations(self) -> list[Any]:
        if not isinstance(self.augment, str):
            return [] if self.augment is None else [self.augment]
        shape, names = self.input_shape_, data.augment.recipe_names(self.augment)
        if len(shape) != 3:
            raise ArgumentError(f"augment={show(self.augment)}: needs pictures, X has features")
        return [data.augment.RECIPES[name].make(shape[1:], self._outputs) for name in names]

    # -- model, loss and optimiser ------------------------------------------------------------

    def _create_model(self) -> nn.Module:
        model, shape = self.model, self.input_shape_
        if isinstance(model, nn.Module):
            return deepcopy(model)
        if callable(model):
            return model(self._outputs, shape)
        if model is None and len(shape) == 1:
            return models.mlp(self._outputs, shape, activation="relu")
        side = min(shape[1:], default=0)
        default = "lenet5" if side >= 12 else "small_cnn" if side >= 4 else "mlp"
        name = check_choice("model", default if model is None else model, models.classifiers())
        return models.create(name, num_classes=self._outputs, input_shape=shape)

    def _create_loss(self, model: nn.Module, example: Array, y: Array) -> nn.Loss:
        """The loss; checks that it suits the estimator, and the model's output the loss."""
        trainer = Trainer(model, loss=deepcopy(self.loss))
        model.to(self.device)
        loss: Any = trainer.loss
        if (loss.target == "classes") != isinstance(self, ClassifierMixin):
            raise ArgumentError(f"loss={show(self.loss)} is not for a {type(self).__name__}")
        found = trainer.predict(example).shape
        if found != (1, self._outputs):
            wanted = f"expected (1, {self._outputs})"
            raise ShapeError(f"the model returns {found} for one example: {wanted}")
        weight = getattr(self, "class_weight", None)
        if weight is not None:
            weight = weights.compute_class_weight(weight, classes=self.classes_, y=y)
            loss.weight = Buffer(weight.astype(np.float32))
        return loss.to(self.device)

    def _create_optimizer(self, model: nn.Module) -> optim.Optimizer:
        create: Any = self.optimizer
        if not callable(create):
            create = optim.BY_NAME[check_choice("optimizer", create, list(optim.BY_NAME))]
        settings = {"lr": self.lr, "weight_decay": self.weight_decay}
        return create(model.parameters(), **{k: v for k, v in settings.items() if v is not None})


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
    model : str, callable, Module or None
        Name in ``xcnn.models.classifiers()``; a function of (number of outputs, shape of an
        example) that returns a Module, such as a subclass; or a Module, of which each fit trains a
        copy, starting with its weights. None: "lenet5", "small_cnn" for pictures below 12×12
        pixels, "mlp" with ReLU for features.
    input_shape : tuple of int or None
        Shape of an example, (C, H, W), if it differs from that of ``X``: flat pictures (N, C·H·W),
        as other estimators take them. None: that of ``X``.
    scale : float or "auto"
        What ``X`` is divided by. "auto": 255 if ``fit`` gets pictures of integers, else 1.
        Standardise features with a ``StandardScaler``.
    augment : str, callable or None
        For training only: names in ``xcnn.data.augment.RECIPES`` separated by commas, such as
        "flip,crop"; or a transform of ``xcnn.data``. It gets ``X`` divided by ``scale``.
    loss : str or Loss
        "cross_entropy", or "nll" for models that return log-probabilities; or an object, such as
        ``nn.CrossEntropyLoss(label_smoothing=0.1)``.
    optimizer : str or callable
        Name in ``xcnn.optim.BY_NAME``; or a function of the parameters, and of ``lr`` and
        ``weight_decay`` unless None, such as ``functools.partial(optim.SGD, momentum=0.9)``.
    lr : float or None
        Learning rate. None: the optimiser's default.
    weight_decay : float or None
        Weight decay. None: the optimiser's default.
    schedule : str or None
        "cosine": the learning rate falls to zero; "onecycle": it rises to ``lr`` first, see
        :class:`xcnn.schedules.OneCycleLR`. None: it is constant.
    epochs : int
        Passes over the data.
    batch_size : int
        Examples per step. If one example is left over at the end of an epoch, it is left out.
    early_stopping : bool
        Hold out ``validation_fraction`` of the examples, of each class alike, and end the training
        when their loss has not improved for ``patience`` epochs, with the weights of the best one.
    validation_fraction : float
        See ``early_stopping``.
    patience : int
        See ``early_stopping``.
    metrics : sequence
        Names in ``xcnn.metrics.names()`` or objects, measured in each epoch.
    callbacks : sequence
        Objects of ``xcnn.callbacks``, or functions ``f(trainer, epoch)``. They are used as they
        are, not copied.
    warm_start : bool
        Whether ``fit`` goes on with the weights of the last one, with a new optimiser.
    device : str
        "cpu", "cuda", "cuda:N" or "auto": a GPU if there is one.
    random_state : int, RandomState or None
        Seeds weights, order, dropout and augmentation. With an int, each fit gives the same bits.
    verbose : bool
        Whether to show a progress bar for each epoch (only on a terminal or in a notebook).
    class_weight : dict, str or None
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
    >>> classifier = CNNClassifier("lenet5", epochs=30, augment="crop", schedule="cosine")
    >>> accuracy = classifier.fit(x_train, y_train).score(x_test, y_test)
    """

    _: KW_ONLY
    loss: Any = "cross_entropy"
    class_weight: Any = None

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on a part of the data; the next call goes on from there.

        ``epochs``, ``schedule`` and ``early_stopping`` do not apply. The optimiser goes on too,
        unless the estimator was copied or pickled in between.

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
        best = self._predict(X).argmax(axis=1)  # first: it checks that there was a fit
        return self.classes_[best]

    def _encode(self, y: Array, goes_on: bool, classes: Any) -> tuple[Array, int]:
        """The indices of the labels, and the number of classes."""
        multiclass.check_classification_targets(y)
        if not goes_on:
            self.classes_ = np.unique(y if classes is None else classes)
        if len(self.classes_) < 2:
            raise ArgumentError(f"y has one class, {self.classes_}: expected at least two")
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ArgumentError(f"y has {unknown}: expected {self.classes_}, as in the first fit")
        return np.searchsorted(self.classes_, y), len(self.classes_)


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
        (N, outputs), that returns their mean loss.

    Attributes
    ----------
    model_, history_, n_iter_, n_features_in_, input_shape_
        As for :class:`CNNClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = make_pipeline(StandardScaler(), CNNRegressor(epochs=50, random_state=0))
    >>> r2 = regressor.fit(X[:300], y[:300]).score(X[300:], y[300:])
    """

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
        self._y_dtype = np.float64 if y.dtype == np.float64 else np.float32
        target = y.reshape(len(y), -1).astype(np.float32)
        return target, target.shape[1]
