"""A page in the browser on which a trained network classifies drawings and pictures.

The command is ``xcnn demo RUN``. For a network of your own:

>>> classifier = xcnn.demo.Classifier(
...     model, input_shape=(1, 28, 28), classes=list("0123456789"), normalize=mnist.normalize()
... )
>>> xcnn.demo.serve(classifier)  # until Ctrl-C
"""

from .classifier import Classifier
from .server import PORT, Server, serve

__all__ = ["PORT", "Classifier", "Server", "serve"]
