"""BatchNormalization, InstanceNormalization, GroupNormalization, LayerNormalization, LRN."""

import numpy as np
import pytest
from onnx import helper

from xcnn import Tensor, nn, no_grad
from xcnn.errors import FileFormatError
from xcnn.onnx.importer import Node, build
from xcnn.testing import gradcheck

from ..conftest import assert_matches, layouts, normal
from ..strict import count_syncs
from .models import graph_of, model_of

EPS = 1e-5
SHAPES = [(4, 3), (4, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 2), (2, 3, 2, 2, 1, 2)]


def run(graph, backend, *arrays):
    with no_grad():
        y = graph.to(backend.device)(*[backend.asarray(a) for a in arrays])
    return tuple(t.numpy() for t in y) if isinstance(y, tuple) else y.numpy()


def one(kind, weights, dtype="float32", **settings):
    """A Graph with one node that takes x, of any shape, and ``weights``."""
    weights = {n: np.asarray(a, dtype) for n, a in weights.items()}
    return graph_of(kind, {"x": None}, weights, **settings)


def of_all_inputs(kind, count, **settings):
    """A Graph whose node has ``count`` inputs, none of them a weight."""
    settings = {"opset": 21, "outputs": ("y",), **settings}
    names = [f"x{i}" for i in range(count)]
    opset, outputs = settings.pop("opset"), settings.pop("outputs")
    node = helper.make_node(kind, names, list(outputs), name="the node", **settings)
    return build(model_of([node], dict.fromkeys(names), outputs, opset=opset))


def first_group_normalization(settings):
    """The node of version 18, which is deprecated: the checker of ``build`` takes no such file."""
    names = ("x", "scale", "bias")
    node = Node("GroupNormalization", "", "the node", settings, names, ("y",), 18, 2**32)
    return node.eval()


def normalized(x, axes, eps=EPS):
    """x with mean 0 and variance 1 over ``axes``, float64."""
    mean = x.mean(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axis=axes, keepdims=True) + eps)


def along(weight, ndim, axis=1):
    """A weight shaped to lie along one axis."""
    return weight.reshape(*(1,) * axis, -1, *(1,) * (ndim - axis - 1))


# -- batch ----------------------------------------------------------------------------------


def statistics(channels=3):
    """Scale, bias, mean, var."""
    names = ("scale", "bias", "mean", "var")
    values = [normal(channels, seed=seed) for seed in range(1, 5)]
    values[3] = np.abs(values[3]) + 0.5
    return dict(zip(names, values, strict=True))


def batch_normalized(x, scale, bias, mean, var, eps=EPS):
    scale, bias, mean, var = (along(a, x.ndim) for a in (scale, bias, mean, var))
    return (x - mean) / np.sqrt(var + eps) * scale + bias


def of_batch(x):
    axes = (0, *range(2, x.ndim))
    return x.mean(axis=axes), x.var(axis=axes)


class TestBatchNormalization:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_evaluation(self, backend, shape):
        x, weights = normal(*shape), statistics()
        graph = one("BatchNormalization", weights, epsilon=0.01)
        wanted = batch_normalized(x, **weights, eps=0.01)
        assert_matches(run(graph, backend, x.astype("float32")), wanted, "float32")

    def test_one_axis_is_one_channel(self, backend):
        x, weights = normal(5), statistics(1)
        wanted = batch_normalized(x[:, None], **weights)[:, 0]
        graph = one("BatchNormalization", weights)
        assert_matches(run(graph, backend, x.astype("float32")), wanted)

    @pytest.mark.parametrize(
        ("opset", "mode"), [(6, {"is_test": 1}), (6, {}), (7, {}), (9, {}), (14, {})]
    )
    def test_evaluation_in_every_version(self, backend, opset, mode):
        x, weights = normal(2, 3, 4, 5), statistics()
        graph = one("BatchNormalization", weights, opset=opset, **mode)
        wanted = batch_normalized(x, **weights)
        assert_matches(run(graph, backend, x.astype("float32")), wanted)

    @pytest.mark.parametrize("opset", [6, 7, 8])
    def test_of_each_pixel(self, backend, opset):
        x, weights = normal(4, 3, 2, 2), statistics(12)
        flat = batch_normalized(x.reshape(4, 12), **weights).reshape(x.shape)
        shaped = {n: a.reshape(3, 2, 2) for n, a in weights.items()}
        settings = {"is_test": 1} if opset == 6 else {}
        graph = one("BatchNormalization", shaped, opset=opset, spatial=0, **settings)
        assert_matches(run(graph, backend, x.astype("float32")), flat)
        graph.train()(backend.asarray(x.astype("float32")))
        changed = dict(graph.named_buffers())["mean"]
        assert changed.shape == (3, 2, 2)
        assert_matches(changed.numpy(), 0.9 * shaped["mean"] + 0.1 * x.mean(axis=0), factor=2)

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("opset", [14, 21])
    def test_statistics_as_outputs(self, backend, opset, shape):
        x, weights = normal(*shape), statistics()
        graph = one(
            "BatchNormalization",
            weights,
            opset=opset,
            outputs=("y", "m", "v"),
            training_mode=1,
            momentum=0.75,
        )
        y, mean, var = run(graph, backend, x.astype("float32"))
        batch_mean, batch_var = of_batch(x)
        wanted = batch_normalized(x, weights["scale"], weights["bias"], batch_mean, batch_var)
        assert_matches(y, wanted, "float32")
        assert_matches(mean, 0.75 * weights["mean"] + 0.25 * batch_mean, "float32")
        assert_matches(var, 0.75 * weights["var"] + 0.25 * batch_var, "float32")
        kept = {n: b.numpy() for n, b in graph.named_buffers()}
        assert_matches(kept["mean"], weights["mean"].astype("float32"))

    @pytest.mark.parametrize("opset", [6, 7, 9])
    def test_statistics_as_five_outputs(self, backend, opset):
        x, weights = normal(2, 3, 4, 5), statistics()
        graph = one("BatchNormalization", weights, opset=opset, outputs=tuple("ymvsa"))
        y, mean, var, batch_mean, batch_var = run(graph, backend, x.astype("float32"))
        of_x = of_batch(x)
        assert_matches(y, batch_normalized(x, weights["scale"], weights["bias"], *of_x))
        assert_matches(mean, 0.9 * weights["mean"] + 0.1 * of_x[0])
        assert_matches(var, 0.9 * weights["var"] + 0.1 * of_x[1])
        assert_matches(batch_mean, of_x[0])
        assert_matches(batch_var, of_x[1])

    def test_an_empty_batch_changes_no_statistics(self, backend):
        weights = statistics()
        graph = one("BatchNormalization", weights, outputs=("y", "m", "v"), training_mode=1)
        y, mean, var = run(graph, backend, np.zeros((0, 3, 4, 5), "float32"))
        assert y.shape == (0, 3, 4, 5)
        assert_matches(mean, weights["mean"].astype("float32"))
        assert_matches(var, weights["var"].astype("float32"))

    @pytest.mark.parametrize("shape", [(4, 3, 5, 2), (4, 3, 2, 3, 2)], ids=str)
    def test_trains_as_the_layer_of_pytorch(self, backend, shape):
        torch = pytest.importorskip("torch")
        weights = statistics()
        graph = one("BatchNormalization", weights, momentum=0.75).train().to(backend.device)
        kind = torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm3d
        layer = kind(3, momentum=0.25)
        names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
        state = {n: torch.from_numpy(weights[o].astype("float32")) for n, o in names.items()}
        layer.load_state_dict({**state, "num_batches_tracked": torch.tensor(0)})
        for seed in range(2):
            x, dy = normal(*shape, seed=seed), normal(*shape, seed=9)
            x, dy = (a.astype("float32") for a in (x, dy))
            y, wanted = graph(backend.asarray(x)), layer(torch.from_numpy(x))
            y.backward(backend.asarray(dy))
            wanted.backward(torch.from_numpy(dy))
            assert_matches(y.numpy(), wanted.detach().numpy(), factor=2)
        gradients = {n: backend.to_host(p.grad.data) for n, p in graph.named_parameters()}
        assert_matches(gradients["scale"], layer.weight.grad.numpy(), factor=4)
        assert_matches(gradients["bias"], layer.bias.grad.numpy(), factor=4)
        kept = {n: b.numpy() for n, b in graph.named_buffers()}
        assert_matches(kept["mean"], layer.running_mean.numpy())
        assert_matches(kept["var"], layer.running_var.numpy())

    def test_statistics_stay_in_their_memory(self, backend):
        graph = one("BatchNormalization", statistics()).to(backend.device).train()
        arrays = {n: b.data for n, b in graph.named_buffers()}
        before = {n: backend.to_host(a).copy() for n, a in arrays.items()}
        graph(backend.asarray(normal(4, 3, 2, 2, dtype="float32")))
        for name, buffer in graph.named_buffers():
            assert buffer.data is arrays[name]
            assert (buffer.numpy() != before[name]).all()

    def test_statistics_that_are_inputs_are_not_changed(self, backend):
        graph = of_all_inputs("BatchNormalization", 5).train()
        x, values = normal(4, 3, 2, 2), statistics()
        given = [backend.asarray(a.astype("float32")) for a in (x, *values.values())]
        before = [backend.to_host(a).copy() for a in given]
        assert_matches(graph(*given).numpy(), batch_normalized(x, **values))
        for array, kept in zip(given, before, strict=True):
            np.testing.assert_array_equal(backend.to_host(array), kept)

    def test_weights_more_precise_than_the_input(self, backend):
        x, weights = normal(2, 3, 4, 5, dtype="float16"), statistics()
        y = run(one("BatchNormalization", weights), backend, x)
        assert_matches(y, batch_normalized(x.astype("float64"), **weights), "float16")

    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2, 2, 2)], ids=str)
    def test_gradients(self, backend, shape, training):
        settings = {"training_mode": 1, "outputs": ("y",)} if training else {}
        graph = of_all_inputs("BatchNormalization", 5, **settings)
        x, (scale, bias, mean, var) = normal(*shape), statistics().values()
        mean, var = backend.asarray(mean), backend.asarray(var)
        arrays = [backend.asarray(a) for a in (x, scale, bias)]
        gradcheck(lambda x, w, b: graph(x, w, b, Tensor(mean), Tensor(var)), *arrays)

    def test_layouts(self, backend):
        x, weights = normal(4, 3, 2, 5, dtype="float32"), statistics()
        graph = one("BatchNormalization", weights).to(backend.device)
        for array in layouts(backend, x).values():
            assert_matches(graph(array).numpy(), batch_normalized(x.astype("float64"), **weights))

    def test_no_host_synchronisation(self, strict):
        graph = one("BatchNormalization", statistics()).to("strict").train()
        x = strict.asarray(normal(4, 3, 2, 2, dtype="float32"))
        graph(x).sum().backward()
        with count_syncs() as syncs:
            graph(x).sum().backward()
        assert syncs == []

    @pytest.mark.parametrize(
        ("shape", "weights", "text"),
        [
            ((), 3, "no axes"),
            ((2, 4, 5), 3, r"expected \(4,\)"),
            ((2, 3, 5), 4, r"expected \(3,\)"),
        ],
    )
    def test_refuses(self, shape, weights, text):
        graph = one("BatchNormalization", statistics(weights))
        with pytest.raises(FileFormatError, match=text):
            graph(np.ones(shape, "float32"))

    def test_refuses_momentum_out_of_range(self):
        graph = one("BatchNormalization", statistics(), momentum=1.5).train()
        with pytest.raises(ValueError, match="momentum"):
            graph(np.ones((2, 3, 4), "float32"))


# -- instance, group ------------------------------------------------------------------------

WEIGHTS = {"scale": normal(6, seed=1), "bias": normal(6, seed=2)}
LARGER = [(2, 6, 5), (2, 6, 4, 5), (2, 6, 2, 3, 2), (1, 6, 2, 1, 2, 2)]


class TestInstanceNormalization:
    @pytest.mark.parametrize("shape", LARGER, ids=str)
    @pytest.mark.parametrize("opset", [6, 22])
    def test_values(self, backend, opset, shape):
        x = normal(*shape)
        graph = one("InstanceNormalization", WEIGHTS, opset=opset, epsilon=0.01)
        wanted = normalized(x, tuple(range(2, x.ndim)), 0.01)
        wanted = wanted * along(WEIGHTS["scale"], x.ndim) + along(WEIGHTS["bias"], x.ndim)
        assert_matches(run(graph, backend, x.astype("float32")), wanted, "float32")

    def test_gradients(self, backend):
        arrays = (normal(2, 6, 2, 3), *WEIGHTS.values())
        graph = of_all_inputs("InstanceNormalization", 3)
        gradcheck(graph, *[backend.asarray(a) for a in arrays])

    @pytest.mark.parametrize("shape", [(2, 6), (2, 4, 5)])
    def test_refuses(self, shape):
        with pytest.raises(ValueError, match="shape"):
            one("InstanceNormalization", WEIGHTS)(np.ones(shape, "float32"))


class TestGroupNormalization:
    @pytest.mark.parametrize("shape", [(2, 6), *LARGER], ids=str)
    @pytest.mark.parametrize("groups", [1, 2, 3, 6])
    @pytest.mark.parametrize("version", [18, 21])
    def test_values(self, backend, version, groups, shape):
        x = normal(*shape, dtype="float32")
        weights = {n: a[: groups if version < 21 else 6] for n, a in WEIGHTS.items()}
        if version < 21:
            given = [backend.asarray(a.astype("float32")) for a in weights.values()]
            node = first_group_normalization({"num_groups": groups})
            found = node(*map(Tensor, [backend.asarray(x), *given]))
            found = (found[0] if isinstance(found, tuple) else found).numpy()
        else:
            found = run(one("GroupNormalization", weights, num_groups=groups), backend, x)
        grouped = x.astype("float64").reshape(x.shape[0], groups, -1)
        wanted = normalized(grouped, (2,)).reshape(x.shape)
        scale, bias = (
            along(a.repeat(6 // groups) if version < 21 else a, x.ndim) for a in weights.values()
        )
        assert_matches(found, wanted * scale + bias, "float32", factor=4)

    def test_gradients(self, backend):
        graph = of_all_inputs("GroupNormalization", 3, num_groups=3)
        arrays = (normal(2, 6, 2, 3), *WEIGHTS.values())
        gradcheck(graph, *[backend.asarray(a) for a in arrays])

    def test_gradients_of_weights_per_group(self, backend):
        node = first_group_normalization({"num_groups": 3})

        def call(*arrays):
            y = node(*map(Tensor.of, arrays))
            return y[0] if isinstance(y, tuple) else y

        arrays = (normal(2, 6, 2, 3), *(a[:3] for a in WEIGHTS.values()))
        gradcheck(call, *[backend.asarray(a) for a in arrays])

    @pytest.mark.parametrize("stash_type", [1, 10, 11])
    def test_stash_type(self, backend, stash_type):
        x = normal(2, 6, 4, 5, dtype="float16")
        settings = {"num_groups": 2, "stash_type": stash_type}
        y = run(one("GroupNormalization", WEIGHTS, "float16", **settings), backend, x)
        wanted = normalized(x.astype("float64").reshape(2, 2, -1), (2,)).reshape(x.shape)
        wanted = wanted * along(WEIGHTS["scale"], 4) + along(WEIGHTS["bias"], 4)
        assert_matches(y, wanted, "float16", factor=2)

    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ({"num_groups": 0}, "num_groups=0"),
            ({"num_groups": -2}, "num_groups=-2"),
            ({"num_groups": 4}, "num_groups=4"),
            ({"num_groups": 2, "stash_type": 16}, "stash_type=16"),
        ],
        ids=str,
    )
    def test_refuses(self, settings, text):
        with pytest.raises(FileFormatError, match=text):
            one("GroupNormalization", WEIGHTS, **settings)(np.ones((2, 6, 4), "float32"))

    def test_refuses_weights_per_channel_before_version_21(self):
        x, weight = (Tensor(np.ones(s, "float32")) for s in ((2, 6, 4), 6))
        with pytest.raises(FileFormatError, match=r"expected \(2,\)"):
            first_group_normalization({"num_groups": 2})(x, weight, weight)


# -- layer ----------------------------------------------------------------------------------


class TestLayerNormalization:
    @pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (2, 3, 4, 5)], ids=str)
    @pytest.mark.parametrize("bias", [True, False])
    def test_every_axis(self, backend, shape, bias):
        x = normal(*shape)
        for axis in range(-x.ndim, x.ndim):
            first = axis % x.ndim
            weights = {"scale": normal(*shape[first:], seed=1)}
            if bias:
                weights["bias"] = normal(*shape[first:], seed=2)
            graph = one("LayerNormalization", weights, axis=axis, outputs=("y", "m", "s"))
            y, mean, inverse = run(graph, backend, x.astype("float32"))
            axes = tuple(range(first, x.ndim))
            wanted = normalized(x, axes) * weights["scale"] + weights.get("bias", 0)
            assert_matches(y, wanted, "float32", factor=4)
            assert_matches(mean, x.mean(axis=axes, keepdims=True), "float32")
            root = np.sqrt(x.var(axis=axes, keepdims=True) + EPS)
            assert_matches(inverse, 1 / root, "float32", factor=2)

    @pytest.mark.parametrize("shapes", [((), (5,)), ((4, 5), (1,)), ((3, 1, 1), (2, 3, 4, 5))])
    def test_weights_are_broadcast(self, backend, shapes):
        x, scale, bias = (normal(*s, seed=i) for i, s in enumerate([(2, 3, 4, 5), *shapes]))
        graph = of_all_inputs("LayerNormalization", 3, axis=2, epsilon=0.01)
        y = run(graph, backend, *(a.astype("float32") for a in (x, np.asarray(scale), bias)))
        assert_matches(y, normalized(x, (2, 3), 0.01) * scale + bias, factor=4)

    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_gradients(self, backend, axis):
        x = normal(2, 3, 4)
        arrays = [x, *(normal(*x.shape[axis:], seed=seed) for seed in (1, 2))]
        graph = of_all_inputs("LayerNormalization", 3, axis=axis)
        gradcheck(graph, *map(backend.asarray, arrays))

    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_gradients_of_the_statistics(self, backend, axis):
        nodes = [
            helper.make_node(
                "LayerNormalization", ["x", "w", "b"], ["n", "m", "s"], axis=axis, stash_type=11
            ),
            helper.make_node("Mul", ["m", "s"], ["y"]),
        ]
        graph = build(model_of(nodes, dict.fromkeys("xwb"), ["y"]))
        one = backend.asarray(np.ones(1))
        gradcheck(lambda x: graph(x, one, one), backend.asarray(normal(2, 3, 4)))

    @pytest.mark.parametrize(
        ("stash_type", "dtype"), [(1, "float32"), (10, "float16"), (11, "float64")]
    )
    def test_stash_type(self, backend, stash_type, dtype):
        x = normal(2, 3, 8, dtype="float16")
        weights = {"scale": np.ones(8)}
        settings = {"outputs": ("y", "m", "s"), "stash_type": stash_type}
        y, mean, inverse = run(
            one("LayerNormalization", weights, "float16", **settings), backend, x
        )
        wide = x.astype("float64")
        assert_matches(y, normalized(wide, (2,)), "float16", factor=2)
        assert_matches(mean, wide.mean(axis=2, keepdims=True), dtype)
        assert inverse.dtype == dtype

    def test_an_empty_batch(self, backend):
        graph = one("LayerNormalization", {"scale": np.ones(5)}, outputs=("y", "m", "s"))
        found = run(graph, backend, np.zeros((0, 3, 5), "float32"))
        assert [y.shape for y in found] == [(0, 3, 5), (0, 3, 1), (0, 3, 1)]

    @pytest.mark.parametrize(
        ("shape", "settings", "text"),
        [
            ((5,), {"axis": 3}, "axis 3"),
            ((5,), {"axis": -4}, "axis -4"),
            ((4,), {}, "broadcast"),
            ((7, 2, 3, 5), {}, "broadcast"),
            ((5,), {"stash_type": 16}, "stash_type"),
        ],
        ids=str,
    )
    def test_refuses(self, shape, settings, text):
        graph = one("LayerNormalization", {"scale": np.ones(shape)}, **settings)
        with pytest.raises(FileFormatError, match=text):
            graph(np.ones((2, 3, 5), "float32"))


# -- local response -------------------------------------------------------------------------


def responses(x, size, alpha, beta, bias):
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        first, last = c - (size - 1) // 2, c + size // 2
        near = x[:, max(0, first) : last + 1]
        y[:, c] = x[:, c] / (bias + alpha / size * (near**2).sum(axis=1)) ** beta
    return y


class TestLRN:
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 20])
    @pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3), (2, 6, 3, 4), (2, 6, 2, 2, 2)], ids=str)
    def test_values(self, backend, shape, size):
        x = normal(*shape)
        graph = one("LRN", {}, size=size, alpha=0.5, beta=0.6, bias=2.0)
        wanted = responses(x, size, 0.5, 0.6, 2.0)
        assert_matches(run(graph, backend, x.astype("float32")), wanted, "float32")

    def test_defaults(self, backend):
        x = 10 * normal(2, 6, 3, 4)
        wanted = responses(x, 5, 1e-4, 0.75, 1.0)
        assert_matches(run(one("LRN", {}, size=5), backend, x.astype("float32")), wanted)

    @pytest.mark.parametrize("size", [3, 4])
    def test_gradients(self, backend, size):
        graph = of_all_inputs("LRN", 1, size=size, alpha=0.5)
        gradcheck(graph, backend.asarray(normal(2, 6, 3)))

    def test_as_pytorch(self):
        torch = pytest.importorskip("torch")
        x = normal(2, 6, 3, 4, dtype="float32")
        wanted = torch.nn.functional.local_response_norm(torch.from_numpy(x), 5, 0.1)
        assert_matches(one("LRN", {}, size=5, alpha=0.1)(x).numpy(), wanted.numpy())

    @pytest.mark.parametrize(
        ("shape", "settings"), [((5,), {"size": 3}), ((2, 5), {"size": 0})], ids=str
    )
    def test_refuses(self, shape, settings):
        with pytest.raises(FileFormatError, match="size"):
            one("LRN", {}, **settings)(np.ones(shape, "float32"))


def test_weights_are_trained_and_statistics_are_not():
    graph = one("BatchNormalization", statistics())
    assert {n for n, _ in graph.named_parameters()} == {"scale", "bias"}
    assert {n for n, _ in graph.named_buffers()} == {"mean", "var"}
    assert isinstance(graph, nn.Module)
