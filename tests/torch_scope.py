"""Which of PyTorch's operators, layers, optimisers and schedules a CNN meets.

Also samples of those that PyTorch's databases lack. PyTorch itself is not imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

#: by family; names as in PyTorch's database, without ``torch.``
OPERATORS = {
    "arithmetic": """
        add sub mul div true_divide floor_divide remainder fmod pow neg positive square
        addcmul addcdiv lerp maximum minimum fmax fmin clamp clamp_min clamp_max clip
        subtract multiply divide negative __radd__ __rsub__ __rmul__ __rpow__ __rmod__
        __rmatmul__ hypot
    """,
    "comparisons and logic": """
        eq ne lt le gt ge greater greater_equal less less_equal not_equal isclose allclose equal
        isfinite isinf isnan isposinf isneginf isin logical_and logical_or logical_xor logical_not
        bitwise_and bitwise_or bitwise_xor bitwise_not __rand__ __ror__ __rxor__
    """,
    "sign and rounding": """
        abs absolute sign signbit copysign floor ceil round trunc fix frac nan_to_num
    """,
    "elementary functions": """
        exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan asin acos atan atan2
        arcsin arccos arctan arctan2 sinh cosh tanh asinh acosh atanh deg2rad rad2deg
        logaddexp erf erfc sigmoid logit
    """,
    "reductions": """
        sum mean prod max min amax amin argmax argmin all any var std var_mean std_mean norm
        logsumexp median nanmean nansum count_nonzero cumsum
    """,
    "sorting": "sort argsort topk unique",
    "indexing": """
        __getitem__ gather scatter scatter_add index_select index_put masked_fill masked_select
        where nonzero argwhere select narrow diagonal tril triu diag
    """,
    "shape": """
        view view_as reshape reshape_as flatten unflatten ravel clone contiguous stack cat concat
        concatenate hstack vstack chunk split expand expand_as broadcast_to
        broadcast_tensors repeat tile repeat_interleave flip fliplr flipud roll rot90 movedim
        moveaxis transpose swapaxes swapdims permute t T mT squeeze unsqueeze unbind unfold
        meshgrid
    """,
    "dtypes": "to float double half int long bool byte short item",
    "creation": """
        zeros ones full empty zeros_like ones_like full_like empty_like eye arange linspace tensor
        as_tensor rand rand_like randn randn_like randint randint_like randperm normal
        bernoulli multinomial
    """,
    "matrices": "matmul bmm mm mv einsum outer dot cdist",
    "convolution": """
        nn.functional.conv1d nn.functional.conv2d nn.functional.conv3d
        nn.functional.conv_transpose1d nn.functional.conv_transpose2d
        nn.functional.conv_transpose3d nn.functional.linear nn.functional.bilinear
        nn.functional.unfold nn.functional.fold
    """,
    "pooling": """
        nn.functional.max_pool1d nn.functional.max_pool2d nn.functional.max_pool3d
        nn.functional.avg_pool1d nn.functional.avg_pool2d nn.functional.avg_pool3d
        nn.functional.adaptive_avg_pool1d nn.functional.adaptive_avg_pool2d
        nn.functional.adaptive_avg_pool3d nn.functional.adaptive_max_pool1d
        nn.functional.adaptive_max_pool2d nn.functional.adaptive_max_pool3d
        nn.functional.lp_pool1d nn.functional.lp_pool2d nn.functional.lp_pool3d
        nn.functional.max_unpool1d nn.functional.max_unpool2d nn.functional.max_unpool3d
        nn.functional.fractional_max_pool2d nn.functional.fractional_max_pool3d
    """,
    "normalisation": """
        nn.functional.batch_norm nn.functional.group_norm nn.functional.instance_norm
        nn.functional.layer_norm nn.functional.rms_norm nn.functional.local_response_norm
        nn.functional.normalize
    """,
    "images": """
        nn.functional.interpolate nn.functional.upsample_nearest nn.functional.upsample_bilinear
        nn.functional.grid_sample nn.functional.affine_grid nn.functional.pad
        nn.functional.pixel_shuffle nn.functional.pixel_unshuffle nn.functional.channel_shuffle
    """,
    "activations": """
        nn.functional.relu nn.functional.relu6 nn.functional.leaky_relu nn.functional.prelu
        nn.functional.rrelu nn.functional.elu nn.functional.celu nn.functional.selu
        nn.functional.gelu nn.functional.silu nn.functional.mish nn.functional.hardtanh
        nn.functional.hardsigmoid nn.functional.hardswish nn.functional.hardshrink
        nn.functional.softshrink nn.functional.tanhshrink nn.functional.threshold
        nn.functional.softplus nn.functional.softsign nn.functional.softmin
        nn.functional.logsigmoid nn.functional.glu nn.functional.sigmoid nn.functional.tanh
        nn.functional.softmax nn.functional.log_softmax softmax log_softmax
        nn.functional.gumbel_softmax
    """,
    "losses": """
        nn.functional.mse_loss nn.functional.l1_loss nn.functional.smooth_l1_loss
        nn.functional.huber_loss nn.functional.cross_entropy nn.functional.nll_loss
        nn.functional.binary_cross_entropy nn.functional.binary_cross_entropy_with_logits
        nn.functional.kl_div nn.functional.ctc_loss nn.functional.gaussian_nll_loss
        nn.functional.poisson_nll_loss nn.functional.hinge_embedding_loss
        nn.functional.cosine_embedding_loss nn.functional.margin_ranking_loss
        nn.functional.multi_margin_loss nn.functional.multilabel_margin_loss
        nn.functional.multilabel_soft_margin_loss nn.functional.soft_margin_loss
        nn.functional.triplet_margin_loss nn.functional.triplet_margin_with_distance_loss
    """,
    "distances, embedding, attention": """
        nn.functional.cosine_similarity nn.functional.pairwise_distance nn.functional.pdist
        nn.functional.one_hot nn.functional.embedding nn.functional.scaled_dot_product_attention
    """,
    "dropout": """
        nn.functional.dropout nn.functional.dropout1d nn.functional.dropout2d
        nn.functional.dropout3d nn.functional.alpha_dropout nn.functional.feature_alpha_dropout
    """,
    "nn: convolution": """
        Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d Linear Bilinear
        Identity Flatten Unflatten Fold Unfold
    """,
    "nn: pooling": """
        MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d LPPool1d LPPool2d LPPool3d
        AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
        AdaptiveMaxPool3d FractionalMaxPool2d FractionalMaxPool3d MaxUnpool1d MaxUnpool2d
        MaxUnpool3d
    """,
    "nn: normalisation": """
        BatchNorm1d BatchNorm2d BatchNorm3d GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d
        LayerNorm RMSNorm LocalResponseNorm
    """,
    "nn: images": """
        ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d
        ReplicationPad3d ZeroPad1d ZeroPad2d ZeroPad3d ConstantPad1d ConstantPad2d ConstantPad3d
        CircularPad1d CircularPad2d CircularPad3d Upsample UpsamplingNearest2d UpsamplingBilinear2d
        PixelShuffle PixelUnshuffle ChannelShuffle
    """,
    "nn: activations": """
        ReLU ReLU6 LeakyReLU PReLU RReLU ELU CELU SELU GELU SiLU Mish GLU Hardshrink Hardsigmoid
        Hardswish Hardtanh Sigmoid LogSigmoid Softmax Softmax2d LogSoftmax Softmin Softplus
        Softshrink Softsign Tanh Tanhshrink Threshold
    """,
    "nn: losses": """
        L1Loss MSELoss SmoothL1Loss HuberLoss CrossEntropyLoss NLLLoss BCELoss BCEWithLogitsLoss
        KLDivLoss CTCLoss GaussianNLLLoss PoissonNLLLoss HingeEmbeddingLoss CosineEmbeddingLoss
        MarginRankingLoss MultiMarginLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss
        SoftMarginLoss TripletMarginLoss TripletMarginWithDistanceLoss
    """,
    "nn: dropout, embedding, attention": """
        Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout Embedding
        CosineSimilarity PairwiseDistance MultiheadAttention
    """,
}
#: families whose samples of int64 and bool count, too
WITH_INTEGERS = {
    *("arithmetic", "comparisons and logic", "sign and rounding", "reductions", "sorting"),
    *("indexing", "shape", "dtypes", "creation"),
}
#: only shape and dtype are compared: uninitialised memory, or dropped elements among random ones
NO_VALUES = {"empty", "empty_like", "new_empty"} | {
    *("multinomial", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"),
    *("AlphaDropout", "FeatureAlphaDropout", "RReLU"),
}
#: which result holds indices that depend on the order of equal elements, unless ``stable``
TIES = {"sort": 1, "topk": 1, "kthvalue": 1, "median": 1, "nanmedian": 1, "mode": 1, "argsort": 0}
#: absolute tolerance where PyTorch itself rounds more
ROUNDING = {
    "nn.functional.ctc_loss": 2e-4,  # float32
    "CTCLoss": 2e-4,
    "nn.functional.layer_norm": 2e-4,  # of one element: float32, over the root of eps
    "Muon": 2e-3,  # makes the step orthogonal in bfloat16
}
#: what xcnn refuses on purpose, for docs/pytorch.md
REFUSED = (
    "- float32 with float64, and other mixtures of floating-point types: a step that leaves "
    "float32 unnoticed costs memory and time; convert one of them;",
    "- settings outside the range in which they mean anything (a negative `eps`, a `momentum` of "
    "-1.2), which PyTorch computes with.",
)
#: patterns of PyTorch's database that are out of scope, and why
OUT_OF_SCOPE = {
    "complex numbers": r"angle|sgn|c?conj.*|complex|real|imag|isreal|view_as_(real|complex)|polar|"
    r"resolve_\w+|cdouble|cfloat|chalf|H|mH|adjoint",
    "signals: FFT, windows": r"fft\..*|signal\..*|stft|istft",
    "linear algebra, decompositions": r"linalg\..*|cholesky.*|geqrf|lu|"
    r"lu_.*|qr|ormqr|svd.*|pca_lowrank|pinverse|triangular_solve|logdet|matrix_exp|corrcoef|cov",
    "special functions": r"special\..*|i0|igammac?|mvlgamma|polygamma|digamma|lgamma|erfinv",
    "sparse, quantised, masked and segmented": r"(?!masked_(fill|select|scatter))(masked\..*|"
    r"sparse\..*|to_sparse|torch\._scaled.*|_segment_reduce|nn\.functional\.embedding_bag)",
    "in place, or without a value": r"(?!__).*_$|cauchy|exponential|geometric|log_normal|uniform|"
    r"fill|resize_.*|put|index_reduce|zero_|as_strided.*|empty_strided|new_empty_strided|empty_permuted",
    "private": r"_[^_].*|torch\.ops\..*|native_.*|max_pool2d_with_.*|jiterator_.*|grid_sampler_.*|"
    r"constant_pad_nd|nonzero_static|hash_tensor|bfloat16|char|alias_copy|unsafe_.*|(?!index_)\w+_copy",
    "layers: recurrent, transformers, lazy; sparse gradients": r"RNN.*|GRU.*|LSTM.*|"
    r"Transformer.*|Lazy.*|LinearCrossEntropyLoss|SparseAdam",
    "optimisers seldom used for a CNN": r"Adafactor|ASGD",
    "seldom met by a CNN": r"\w*histogram\w*|histc|combinations|cartesian_prod|gcd|lcm|frexp|ldexp|"
    r"rsub|__rdiv__|float_power|xlogy|heaviside|sinc|logaddexp2|"
    r"nextafter|nanquantile|logcumsumexp|trapz|cumulative_trapezoid|unravel_index|vander|dsplit|"
    r"diagflat|(diagonal|select|slice)_scatter|slice|sum_to_size|broadcast_shapes|"
    r"gradient|renorm|bitwise_(left|right)_shift|nn\.functional\.(linear_cross_entropy|"
    r"multi_head_attention_forward)|aminmax|nanmedian|"
    r"kthvalue|mode|cumprod|cum(max|min)|quantile|bincount|diff|trapezoid|msort|searchsorted|"
    r"bucketize|unique_consecutive|index_(add|copy|fill)|take|scatter_reduce|masked_scatter|"
    r"block_diag|diag_embed|trace|addm[mv]|addr|addbmm|baddbmm|tensordot|inner|kron|cross|dist",
    "the same by another name that is in scope": r"split_with_sizes|[hv]split|tensor_split|dstack|"
    r"column_stack|atleast_[123]d|take_along_dim|ger|vdot|new_(zeros|ones|full|empty)|logspace|"
    r"scalar_tensor|(tril|triu)_indices",
}


def _inputs(*shapes: tuple[int, ...]) -> Callable:
    """Random inputs of these shapes."""
    return lambda torch, dtype: tuple(
        torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes
    )


def _calls(*calls: tuple) -> Callable:
    """Samples of a function: the shapes of its inputs, further arguments, settings."""

    def samples(torch: Any, dtype: Any) -> Iterator[tuple[tuple, dict]]:
        if dtype.is_floating_point:
            for shapes, arguments, kwargs in calls:
                yield (*_inputs(*shapes)(torch, dtype), *arguments), kwargs

    return samples


def _unpooled(n: int) -> Callable:
    def inputs(torch: Any, dtype: Any) -> tuple:
        pool = getattr(torch.nn.functional, f"max_pool{n}d")
        x = torch.randn((2, 3, *(4, 6, 2)[:n]), dtype=dtype)
        y, indices = pool(x, 2, return_indices=True)
        return y.requires_grad_(), indices

    return inputs


#: samples of functions that PyTorch's database lacks
OWN: dict[str, Callable] = {
    "nn.functional.affine_grid": _calls(
        *(
            ([(2, n, n + 1)], [(2, 3, *size)], kwargs)
            for n, size in ((2, (4, 5)), (2, (1, 3)), (3, (3, 4, 2)))
            for kwargs in ({}, {"align_corners": True}, {"align_corners": False})
        )
    ),
    "nn.functional.fold": _calls(
        ([(2, 12, 12)], [(4, 5), (2, 2)], {}),
        ([(2, 12, 6)], [(4, 5), 2], {"stride": (2, 1), "padding": 0, "dilation": (1, 2)}),
        ([(3, 18, 20)], [(4, 5), 3], {"padding": 1}),
        ([(18, 20)], [(4, 5), 3], {"padding": 1}),
        ([(2, 8, 4)], [4, 2], {"stride": 2}),
    ),
    **{
        f"nn.functional.lp_pool{n}d": _calls(
            *(
                ([(*batch, 3, *(7, 6, 5)[:n])], [power, *arguments], kwargs)
                for batch in ((2,), ())
                for power in (1.0, 2, 3)
                for arguments, kwargs in (([2], {}), ([3, 2], {"ceil_mode": True}), ([2, 1], {}))
            )
        )
        for n in (1, 2, 3)
    },
    "nn.functional.dropout1d": _calls(
        ([(2, 3, 4)], [], {}),
        ([(3, 4)], [], {"p": 0.3}),
        ([(2, 3, 4)], [0.2, False], {}),
        ([(2, 3, 4)], [1.0], {}),
    ),
    "nn.functional.gumbel_softmax": _calls(
        ([(3, 4)], [], {}),
        ([(3, 4)], [], {"tau": 0.5, "hard": True}),
        ([(2, 3, 4)], [2.0], {"dim": 1}),
    ),
    "tensor": _calls(*(([], [x], {}) for x in ([1.0, 2.0], [[1, 2], [3, 4]], True, 2, 2.5, []))),
    "as_tensor": _calls(*(([], [x], {}) for x in ([1.0, 2.0], [[1, 2], [3, 4]], 2))),
    "rand": _calls(*(([], x, {}) for x in ([3], [2, 3], [(2, 3)], [()], [(0, 2)]))),
    "randperm": _calls(*(([], [n], {}) for n in (5, 0, 1))),
}

_PAIR, _TRIPLET = _inputs((4, 3), (4, 3)), _inputs((4, 3), (4, 3), (4, 3))
_IMAGE = _inputs((2, 3, 4, 5))
#: layers that PyTorch's database lacks: (constructor's arguments and settings, inputs)
LAYERS: dict[str, list[tuple[tuple, dict, Callable]]] = {
    "Identity": [((), {}, _IMAGE), ((54,), {"unused": 1}, _IMAGE)],
    "Flatten": [((), {}, _IMAGE), ((0,), {}, _IMAGE), ((1, 2), {}, _IMAGE)],
    "Unflatten": [((1, (2, 3)), {}, _inputs((2, 6, 4))), ((-1, (2, -1)), {}, _inputs((2, 6)))],
    "Fold": [
        (((4, 5), 2), {}, _inputs((2, 12, 12))),
        (((4, 5), 3), {"padding": 1}, _inputs((2, 9, 20))),
    ],
    "Unfold": [((2,), {}, _IMAGE), ((3,), {"padding": 1, "stride": 2}, _IMAGE)],
    "Upsample": [
        ((), {"scale_factor": 2}, _inputs((2, 3, 4))),
        (((5, 7),), {"mode": "nearest-exact"}, _IMAGE),
        ((), {"scale_factor": (1.5, 2), "mode": "bilinear"}, _IMAGE),
        ((7,), {"mode": "bicubic", "align_corners": True}, _IMAGE),
        ((7,), {"mode": "linear", "align_corners": True}, _inputs((2, 3, 4))),
        ((), {"scale_factor": 2, "mode": "trilinear"}, _inputs((2, 3, 4, 2, 3))),
    ],
    **{
        f"Upsampling{mode}2d": [((), {"scale_factor": 2}, _IMAGE), ((7,), {}, _IMAGE)]
        for mode in ("Nearest", "Bilinear")
    },
    "PixelShuffle": [((2,), {}, _inputs((2, 8, 3, 2))), ((3,), {}, _inputs((9, 3, 2)))],
    "PixelUnshuffle": [((2,), {}, _inputs((2, 3, 4, 6))), ((3,), {}, _inputs((2, 3, 6)))],
    "ChannelShuffle": [((2,), {}, _inputs((2, 4, 3, 5))), ((3,), {}, _inputs((2, 6, 3)))],
    **{f"MaxUnpool{n}d": [((2,), {}, _unpooled(n)), ((2, 2), {}, _unpooled(n))] for n in (1, 2, 3)},
    "Hardsigmoid": [((), {}, _IMAGE), ((), {}, _inputs(()))],
    "RReLU": [((), {}, _IMAGE), ((0.2, 0.4), {}, _IMAGE)],
    **{
        name: [((), {}, _inputs((2, 3, 4))), ((0.2,), {}, _inputs((3, 4)))]
        for name in ("Dropout", "Dropout1d", "AlphaDropout", "FeatureAlphaDropout")
    },
    "Dropout2d": [((), {}, _IMAGE), ((0.2,), {}, _inputs((3, 4, 5)))],
    "Dropout3d": [((), {}, _inputs((2, 3, 4, 2, 3))), ((0.2,), {}, _inputs((3, 4, 5, 2)))],
    "CosineSimilarity": [((), {}, _PAIR), ((0, 1e-3), {}, _PAIR)],
    "PairwiseDistance": [((), {}, _PAIR), ((1, 1e-3, True), {}, _inputs((4, 3), (3,)))],
    "TripletMarginLoss": [((), {}, _TRIPLET), ((), {"swap": True, "p": 1, "margin": 2}, _TRIPLET)],
    "TripletMarginWithDistanceLoss": [((), {}, _TRIPLET), ((), {"margin": 2}, _TRIPLET)],
}

OPTIMISERS = """
    Adadelta Adagrad Adam Adamax AdamW LBFGS Muon NAdam RAdam RMSprop Rprop SGD
"""
_PARTS: list[Callable] = [
    lambda lib, optimizer: [lib.ConstantLR(optimizer, 0.1, 2), lib.ExponentialLR(optimizer, 0.9)],
    lambda lib, optimizer: [lib.StepLR(optimizer, 3), lib.CosineAnnealingLR(optimizer, 10)],
]
#: settings of each schedule, or a function that makes one: (its module, optimiser) to schedule
SCHEDULES: dict[str, list[Any]] = {
    "LambdaLR": [
        {"lr_lambda": lambda epoch: 0.9**epoch},
        {"lr_lambda": [lambda epoch: 0.9**epoch, lambda epoch: 1 / (1 + epoch)]},
    ],
    "MultiplicativeLR": [
        {"lr_lambda": lambda epoch: 0.95},
        {"lr_lambda": [lambda epoch: 0.95, lambda epoch: 1 - epoch / 100]},
    ],
    "StepLR": [{"step_size": 3}, {"step_size": 7, "gamma": 0.5}],
    "MultiStepLR": [{"milestones": [2, 5, 9]}, {"milestones": [3, 3, 8], "gamma": 0.5}],
    "ConstantLR": [{}, {"factor": 0.5, "total_iters": 10}, {"factor": 1.0, "total_iters": 0}],
    "LinearLR": [
        {},
        {"start_factor": 0.1, "total_iters": 12},
        {"start_factor": 1.0, "end_factor": 0.2, "total_iters": 8},
    ],
    "ExponentialLR": [{"gamma": 0.9}, {"gamma": 0.5}],
    "PolynomialLR": [{}, {"total_iters": 10, "power": 2.0}, {"total_iters": 40, "power": 0.5}],
    "CosineAnnealingLR": [{"T_max": 10}, {"T_max": 7, "eta_min": 1e-3}, {"T_max": 40}],
    "CosineAnnealingWarmRestarts": [{"T_0": 5}, {"T_0": 3, "T_mult": 2, "eta_min": 1e-3}],
    "OneCycleLR": [
        {"max_lr": 0.3, "total_steps": 31},
        {"max_lr": [0.3, 1.0], "epochs": 5, "steps_per_epoch": 7, "anneal_strategy": "linear"},
        {"max_lr": 0.3, "total_steps": 31, "three_phase": True, "pct_start": 0.4},
        {"max_lr": 0.3, "total_steps": 31, "cycle_momentum": False, "div_factor": 10},
    ],
    "CyclicLR": [
        {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4, **settings}
        for settings in (
            {},
            {"mode": "triangular2", "step_size_down": 2},
            {"mode": "exp_range", "gamma": 0.9, "cycle_momentum": False},
            {"scale_fn": lambda x: 0.5**x, "scale_mode": "iterations"},
        )
    ],
    "ReduceLROnPlateau": [
        {},
        {"patience": 2, "factor": 0.5, "threshold": 0.1},
        {"mode": "max", "patience": 1, "cooldown": 2, "min_lr": 1e-3},
        {"patience": 0, "threshold_mode": "abs", "threshold": 1.5, "min_lr": [1e-3, 1e-2]},
    ],
    "SequentialLR": [
        lambda lib, optimizer: lib.SequentialLR(optimizer, _PARTS[0](lib, optimizer), [4]),
        lambda lib, optimizer: lib.SequentialLR(
            optimizer, schedulers=_PARTS[1](lib, optimizer), milestones=[8]
        ),
    ],
    "ChainedScheduler": [
        lambda lib, optimizer: lib.ChainedScheduler(_PARTS[0](lib, optimizer)),
        lambda lib, optimizer: lib.ChainedScheduler(_PARTS[1](lib, optimizer), optimizer),
    ],
}
