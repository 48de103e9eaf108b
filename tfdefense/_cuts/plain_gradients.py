"""Gradients of TensorFlow's operations in terms of plain ones, for formats that know no operations for gradients.

ONNX and LiteRT have no `ReluGrad` or `MaxPoolGrad`, and can't follow the shapes that TensorFlow computes for broadcasts.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math

import tensorflow as tf

_wanted = contextvars.ContextVar("plain_gradients", default=False)


@contextlib.contextmanager
def plain_gradients():
    """Graphs that are traced inside, gradients and all, are made of operations that other formats know."""
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def in_graph(function, x, directions):
    """What `tfdefense._cuts.with_slopes` gives, in a graph that is traced: of TensorFlow's own operations, or of plain ones."""
    graph, names = tf.compat.v1.get_default_graph(), {}
    if _wanted.get():
        names = {name: f"tfdefense{name}" for name in _register()}
    before = len(graph.get_operations())
    with graph.gradient_override_map(names):
        output = function(x)
    found = [tf.gradients(output, x, tf.nest.map_structure(tf.stop_gradient, one))[0] for one in directions(output)]
    for operation in graph.get_operations()[before:]:
        # Done with: a SavedModel would look for the gradient under that name.
        if operation.type in names and "_gradient_op_type" in operation.node_def.attr:
            operation._clear_attr("_gradient_op_type")
    return output, found


@functools.cache
def _register():
    for name, gradient in _GRADIENTS.items():
        tf.RegisterGradient(f"tfdefense{name}")(gradient)
    return tuple(_GRADIENTS)


def _unbroadcast(gradient, tensor):
    """The sum of a gradient over the axes along which a tensor was repeated; its shape is known but for the batch."""
    shape = tensor.shape
    extra = len(gradient.shape) - len(shape)
    if extra:
        gradient = tf.reduce_sum(gradient, list(range(extra)))
    repeated = [i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1]
    return tf.reduce_sum(gradient, repeated, keepdims=True) if repeated else gradient


def _of_two(first, second):
    """Of an operation on two tensors, from what each is multiplied with."""

    def gradient(op, g):
        a, b = op.inputs
        return [_unbroadcast(g * factor(a, b, op.outputs[0]), one) for one, factor in ((a, first), (b, second))]

    return gradient


def _of_one(factor):
    return lambda op, g: g * factor(op.inputs[0], op.outputs[0])


def _is(condition):
    return tf.cast(condition, tf.float32)


def _reduced(op, g):
    """Of a sum or a mean."""
    x, axes = op.inputs[0], tf.get_static_value(op.inputs[1])
    axes = sorted(axis % len(x.shape) for axis in ([axes] if axes.ndim == 0 else axes))
    if not op.get_attr("keep_dims"):
        for axis in axes:
            g = tf.expand_dims(g, axis)
    count = math.prod(x.shape[axis] for axis in axes) if op.type == "Mean" else 1
    return tf.zeros_like(x) + g / count, None


def _conv2d(op, g):
    x, kernel = op.inputs
    shape = tf.stack([tf.shape(x)[0], *x.shape[1:]])
    options = {name: op.get_attr(name) for name in ("strides", "dilations")}
    padding = op.get_attr("padding").decode()
    return tf.nn.conv2d_transpose(g, kernel, shape, padding=padding, **options), None


def _pool(op, g):
    """Of a maximum, whose gradient goes to the first of equals, and of a mean, within windows."""
    x, out = op.inputs[0], op.outputs[0]
    size, stride = ([int(one) for one in op.get_attr(name)[1:3]] for name in ("ksize", "strides"))
    places, sides = out.shape[1:3], x.shape[1:3]
    same = op.get_attr("padding") == b"SAME"
    reach = [(n - 1) * s + k for n, s, k in zip(places, stride, size, strict=True)]
    before = [max(0, r - h) // 2 if same else 0 for r, h in zip(reach, sides, strict=True)]
    padding = [[0, 0], *([b, max(0, r - h - b)] for b, r, h in zip(before, reach, sides, strict=True)), [0, 0]]
    padded = tf.pad(x, padding, constant_values=x.dtype.min if op.type == "MaxPool" else 0)
    ones = tf.pad(tf.ones_like(x), padding)
    offsets = [(i, j) for i in range(size[0]) for j in range(size[1])]

    def window(tensor, i, j):
        ends = [at + (n - 1) * s + 1 for at, n, s in zip((i, j), places, stride, strict=True)]
        return tensor[:, i : ends[0] : stride[0], j : ends[1] : stride[1], :]

    if op.type == "MaxPool":
        waiting, shares = tf.ones_like(out), []
        for offset in offsets:
            mine = waiting * _is(window(padded, *offset) >= out)
            waiting -= mine
            shares.append(g * mine)
    else:
        shares = [g / tf.add_n([window(ones, *offset) for offset in offsets])] * len(offsets)
    total = tf.add_n([_spread(share, offset, stride, padded.shape[1:3]) for share, offset in zip(shares, offsets, strict=True)])
    return total[:, before[0] : before[0] + sides[0], before[1] : before[1] + sides[1], :]


def _spread(values, offset, stride, sides):
    """Values at every so many rows and columns of a larger map, from an offset on, and zeros between."""
    _, rows, columns, channels = values.shape
    for axis, count, width in ((1, columns, channels), (0, rows, None)):
        # Four axes at a time: what formats with few pad.
        shape = [-1, count, 1, width or sides[1] * channels]
        values = tf.pad(tf.reshape(values, shape), [[0, 0], [0, 0], [0, stride[axis] - 1], [0, 0]])
        long, last = count * stride[axis], shape[-1]
        values = tf.reshape(values, [-1, long, last])[:, : sides[axis] - offset[axis], :]
        values = tf.pad(values, [[0, 0], [offset[axis], max(0, sides[axis] - offset[axis] - long)], [0, 0]])
    return tf.reshape(values, [-1, *sides, channels])


_GRADIENTS = {
    "Relu": _of_one(lambda x, y: _is(x > 0)),
    "Relu6": _of_one(lambda x, y: _is(x > 0) * _is(x < 6)),
    "LeakyRelu": lambda op, g: g * (_is(op.inputs[0] > 0) + op.get_attr("alpha") * _is(op.inputs[0] <= 0)),
    "Elu": _of_one(lambda x, y: _is(x > 0) + _is(x <= 0) * (y + 1)),
    "Sigmoid": _of_one(lambda x, y: y * (1 - y)),
    "Tanh": _of_one(lambda x, y: 1 - y * y),
    "Softplus": _of_one(lambda x, y: tf.sigmoid(x)),
    "Sqrt": _of_one(lambda x, y: 0.5 / y),
    "Rsqrt": _of_one(lambda x, y: -0.5 * y * y * y),
    "Add": _of_two(lambda a, b, y: 1.0, lambda a, b, y: 1.0),
    "AddV2": _of_two(lambda a, b, y: 1.0, lambda a, b, y: 1.0),
    "Sub": _of_two(lambda a, b, y: 1.0, lambda a, b, y: -1.0),
    "Mul": _of_two(lambda a, b, y: b, lambda a, b, y: a),
    "Maximum": _of_two(lambda a, b, y: _is(a >= b), lambda a, b, y: _is(a < b)),
    "Minimum": _of_two(lambda a, b, y: _is(a <= b), lambda a, b, y: _is(a > b)),
    "SquaredDifference": _of_two(lambda a, b, y: 2 * (a - b), lambda a, b, y: 2 * (b - a)),
    "RealDiv": _of_two(lambda a, b, y: 1 / b, lambda a, b, y: -y / b),
    "Mean": _reduced,
    "Sum": _reduced,
    "Conv2D": _conv2d,
    "MaxPool": _pool,
    "AvgPool": _pool,
}
