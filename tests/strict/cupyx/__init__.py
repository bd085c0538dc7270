"""The part of ``cupyx`` that is offered, beside the stand-in for ``cupy``."""
