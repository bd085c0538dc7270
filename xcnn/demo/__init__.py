"""A page in the browser on which a trained network classifies drawings and pictures.

The command is ``xcnn demo RUN``. For a network of your own, pass a :class:`Classifier` to
:func:`serve`:

>>> digits = xcnn.data.load("digits")
>>> model = xcnn.models.lenet5(input_shape=(1, 32, 32))
>>> classifier = xcnn.demo.Classifier(model, (1, 32, 32), digits.classes, digits.normalize())
>>> xcnn.demo.serve(classifier)  # doctest: +SKIP
"""

from .classifier import Classifier
from .server import PORT, Server, serve

__all__ = ["PORT", "Classifier", "Server", "serve"]
