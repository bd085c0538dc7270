"""`cupy.cuda.compiler`, as far as it is offered."""


class CompileException(Exception):
    """What CuPy raises where the compiler refuses a source."""

    def __init__(self, msg, source, name, options, backend="nvrtc"):
        super().__init__(msg)
        self._msg, self.source, self.name = msg, source, name
        self.options, self.backend = options, backend

    def __reduce__(self):
        return type(self), (self._msg, self.source, self.name, self.options, self.backend)

    def get_message(self):
        """Return the compiler's output."""
        return self._msg
