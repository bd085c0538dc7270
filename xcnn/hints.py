"""What to use instead of names of PyTorch that are not here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .errors import UnknownNameError, did_you_mean

_RECURRENT = "recurrent networks are not part of xcnn; use nn.Conv1d or nn.MultiheadAttention"
_TRANSFORMER = "build the block from nn.MultiheadAttention, nn.LayerNorm and nn.Linear"
_LAZY = "use the class without Lazy, and pass the number of input channels or features"
_SEVERAL = "use xcnn.distributed.init() and xcnn.Trainer(..., distributed=True)"
_QUANTISED = "quantised networks are not part of xcnn; export to ONNX and quantise there"
_COMPLEX = "complex numbers are not part of xcnn; use two real channels"
_SPARSE = "sparse tensors are not part of xcnn; use a dense one"
_LINALG = "use numpy.linalg or cupy.linalg on tensor.data, without a gradient"
_FFT = "use numpy.fft or cupy.fft on tensor.data, without a gradient"
_COUNTS = "use xcnn.metrics.ConfusionMatrix, or numpy.bincount and numpy.histogram on tensor.data"
_PRIVATE = "use named_parameters, named_buffers, named_children and setattr(module, name, value)"

_PARTS, _LAZY_KINDS = ("Decoder", "Encoder"), ("BatchNorm", "Conv", "ConvTranspose", "InstanceNorm")

#: functions, which are methods of a tensor too
_INSTEAD = {
    **dict.fromkeys(("addbmm", "addmm", "addmv", "addr", "baddbmm"), "use input + a @ b"),
    **dict.fromkeys(("diff", "trapezoid"), "use x[1:] - x[:-1], and its sum"),
    **dict.fromkeys(("dstack", "column_stack"), "use xcnn.stack or xcnn.cat"),
    **dict.fromkeys(("hsplit", "tensor_split", "vsplit"), "use split or chunk"),
    **dict.fromkeys(("index_copy", "index_fill", "masked_scatter"), "use masked_fill or index_put"),
    **dict.fromkeys(("inner", "kron", "tensordot", "vdot"), "use xcnn.einsum"),
    **dict.fromkeys(("kthvalue", "mode", "msort", "quantile"), "use sort or topk"),
    **dict.fromkeys(("take", "take_along_dim"), "use x.flatten()[index], or gather"),
    "aminmax": "use amin and amax",
    "cumprod": "use x.log().cumsum(dim).exp(), of numbers > 0",
    "diag_embed": "use diag",
    "index_add": "use index_put(..., accumulate=True), or scatter_add",
    "nanmedian": "use x[~x.isnan()].median()",
    "trace": "use x.diagonal().sum()",
}
NN = {
    **dict.fromkeys(("GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell"), _RECURRENT),
    **{f"Transformer{part}{layer}": _TRANSFORMER for part in _PARTS for layer in ("", "Layer")},
    **{f"Lazy{kind}{n}d": _LAZY for kind in _LAZY_KINDS for n in "123"},
    "LazyLinear": _LAZY,
    "Transformer": _TRANSFORMER,
    **dict.fromkeys(("DataParallel", "parallel"), _SEVERAL),
    **dict.fromkeys(("qat", "quantized", "quantizable"), _QUANTISED),
    "AdaptiveLogSoftmaxWithLoss": "use nn.Linear and nn.CrossEntropyLoss",
    "Container": "use nn.Sequential, nn.ModuleList or nn.ModuleDict",
    "CrossMapLRN2d": "use nn.LocalResponseNorm",
    "EmbeddingBag": "use nn.Embedding, and .mean(1) or .sum(1) of its output",
    "NLLLoss2d": "use nn.NLLLoss, which takes images",
    "ParameterDict": "use a plain dict of nn.Parameter as an attribute",
    "UninitializedParameter": "pass the sizes to the layer",
}
FUNCTIONAL = {
    **_INSTEAD,
    "embedding_bag": "use F.embedding, and .mean(1) or .sum(1) of its output",
    "grid_sampler": "use F.grid_sample",
    "multi_head_attention_forward": "use nn.MultiheadAttention or F.scaled_dot_product_attention",
    "scaled_grouped_mm": "use xcnn.matmul",
    "upsample": "use F.interpolate",
}
OPTIM = {
    "ASGD": "use SGD, with optim.EMA or optim.SWA for the average",
    "Adafactor": "use AdamW, or SGD for less state",
    "SparseAdam": "sparse gradients are not part of xcnn; use Adam",
    "swa_utils": "use optim.EMA, optim.SWA and optim.update_batch_norm",
}
TENSOR = {
    **_INSTEAD,
    **dict.fromkeys(
        ("cholesky", "det", "eig", "inverse", "logdet", "lu", "pinverse", "qr", "svd"), _LINALG
    ),
    **dict.fromkeys(("coalesce", "indices", "to_dense", "to_sparse", "values"), _SPARSE),
    **dict.fromkeys(("angle", "conj", "imag", "is_complex", "real"), _COMPLEX),
    **dict.fromkeys(("fft", "ifft", "istft", "stft"), _FFT),
    **dict.fromkeys(("dequantize", "int_repr", "q_scale"), _QUANTISED),
    "bfloat16": "bfloat16 is not part of xcnn; use .half() or .float()",
    "data_ptr": "use tensor.data.ctypes.data (NumPy) or tensor.data.data.ptr (CuPy)",
    "element_size": "use tensor.data.itemsize",
    "get_device": "use tensor.device",
    "grad_fn": "use tensor.creator",
    "is_cpu": 'use tensor.device == "cpu"',
    "is_cuda": 'use tensor.device != "cpu"',
    "is_pinned": "copies to a GPU are pinned by the loader",
    "nbytes": "use tensor.data.nbytes",
    "ndimension": "use tensor.ndim",
    "pin_memory": "leave it out: copies to a GPU are pinned by the loader",
    "share_memory_": "leave it out: the loader's workers are threads",
    "storage": "use tensor.data",
    "stride": "use tensor.data.strides, in bytes",
}
MODULE = {
    **dict.fromkeys(
        ("register_backward_hook", "register_full_backward_hook"),
        "use register_forward_hook, and register_hook of the output in it",
    ),
    **dict.fromkeys(("_buffers", "_modules", "_parameters"), _PRIVATE),
    "bfloat16": "bfloat16 is not part of xcnn; use .half() or .float()",
    "compile": "leave it out: operations run at once",
    "extra_repr": "the arguments of __init__ are shown",
    "share_memory": "leave it out: the loader's workers are threads",
    "type": "use to(dtype)",
}
CUDA = {
    "amp": 'use Trainer(..., precision="float16"), or xcnn.amp',
    "empty_cache": "leave it out",
}
BACKENDS = {"cudnn": "leave it out: convolutions choose their method by shape"}
DATA = {
    **dict.fromkeys(("RandomSampler", "SequentialSampler"), "use DataLoader(shuffle=...)"),
    "ConcatDataset": "write a Dataset with __len__ and __getitem__",
    "SubsetRandomSampler": "use DataLoader(Subset(dataset, indices), shuffle=True)",
    "TensorDataset": "use ArrayDataset(x, y), or the tuple (x, y) itself",
    "WebDataset": "use ShardFolder(path)",
    "random_split": "use Subset(dataset, indices), split or kfold",
}
_THREADS = "leave it out: workers are threads"
#: arguments of DataLoader
LOADER = {
    **dict.fromkeys(("persistent_workers", "worker_init_fn"), _THREADS),
    "collate_fn": "items are stacked; return arrays of one shape, and change batches in transform=",
    "generator": "use seed",
    "num_workers": "use workers, the number of threads",
    "pin_memory": "leave it out: copies to a GPU are pinned",
}
TOP = {
    **_INSTEAD,
    "mps": "Apple's GPUs are not supported; use the CPU",
    "set_default_device": "pass device= to each tensor and module",
    **dict.fromkeys(("complex64", "complex128", "complex", "polar", "view_as_complex"), _COMPLEX),
    **dict.fromkeys(("linalg", "inverse", "svd"), _LINALG),
    **dict.fromkeys(("fft", "stft"), _FFT),
    **dict.fromkeys(("ao", "quantization"), _QUANTISED),
    "logspace": "use 10 ** xcnn.linspace(start, end, steps)",
    "DoubleTensor": 'use xcnn.tensor(..., dtype="float64")',
    "FloatTensor": "use xcnn.tensor",
    "Generator": "use xcnn.manual_seed",
    "LongTensor": 'use xcnn.tensor(..., dtype="int64")',
    **dict.fromkeys(("bincount", "histc", "histogram"), _COUNTS),
    **dict.fromkeys(("bucketize", "searchsorted"), "use (x[..., None] > limits).sum(-1)"),
    **dict.fromkeys(("e", "inf", "nan", "pi"), "use Python's math"),
    **dict.fromkeys(("finfo", "iinfo"), "use numpy's"),
    "set_default_dtype": "pass dtype=, or use module.to(dtype)",
    "Size": "use a tuple: tensor.shape is one",
    "autocast": 'use Trainer(..., precision="float16"), or xcnn.amp.autocast',
    "autograd": "use backward, xcnn.vjp or xcnn.Function; gradients are of first order only",
    "is_floating_point": "use tensor.is_floating_point()",
    "is_tensor": "use isinstance(x, xcnn.Tensor)",
    "bfloat16": "bfloat16 is not part of xcnn; use float16 or float32",
    "compile": "leave it out: operations run at once",
    "hub": "use xcnn.models.create(name, weights=...)",
    "jit": "use xcnn.onnx.export",
    "multiprocessing": "use the workers of xcnn.data.DataLoader",
    "distributions": "use xcnn.randn, numpy.random or scipy.stats",
    "profiler": "use Python's cProfile, or Nsight on a GPU",
    "quasirandom": "use scipy.stats.qmc",
    "seed": "use xcnn.manual_seed",
    "set_printoptions": "use numpy.set_printoptions",
    "set_num_threads": "set OPENBLAS_NUM_THREADS before Python starts",
    "utils": "use xcnn.data for datasets and loaders",
    "vmap": "operations take batches",
}


def no_attribute(
    owner: str, name: str, hints: dict[str, str], known: Iterable[str]
) -> UnknownNameError:
    """The error for a missing attribute, with a hint, or a name that is spelled like it."""
    hint = f"; {hints[name]}" if name in hints else did_you_mean(name, known)
    return UnknownNameError(f"{owner} has no attribute {name!r}{hint}")


def getter(owner: str, hints: dict[str, str], known: Iterable[str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module, which raises :func:`no_attribute`."""

    def missing(name: str) -> Any:
        raise no_attribute(owner, name, hints, known)

    return missing
