"""Exchange of device memory by DLPack, among the stand-in's arrays."""

CPU, CUDA = 1, 2  # DLPack's device types


class Capsule:
    """What `ndarray.__dlpack__` gives: memory that one importer may take."""

    def __init__(self, array):
        self._array = array

    def take(self):
        """Return a NumPy array over the memory."""
        if self._array is None:
            raise ValueError("A DLPack tensor object cannot be consumed multiple times")
        array, self._array = self._array[...], None
        return array


def from_dlpack(array, *, device=None, copy=None):
    """Return an array over the memory that one of the stand-in's arrays exports."""
    from .array import wrap
    from .stream import get_current_stream

    kind, _ = array.__dlpack_device__()
    if kind == CPU:
        raise TypeError(
            "CPU arrays cannot be directly imported to CuPy. "
            "Use `cupy.array(numpy.from_dlpack(input))` instead."
        )
    if kind != CUDA:
        raise TypeError(f"Unsupported array type: {kind}")
    capsule = array.__dlpack__(stream=get_current_stream().ptr, copy=copy)
    if not isinstance(capsule, Capsule):
        raise NotImplementedError("the stand-in imports its own arrays only")
    return wrap(capsule.take())
