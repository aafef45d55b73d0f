"""Well-known networks with random weights of fixed seeds, built here so that nothing has to be downloaded.

python benchmarks/networks.py mobilenet_v2 OUT.onnx
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Network:
    """A model under construction: each method adds one layer and returns the name of its result."""

    def __init__(self, name: str, input_shape: tuple[int, ...], input_type: int = TensorProto.FLOAT) -> None:
        self.name = name
        self.input = "input"
        self.input_info = helper.make_tensor_value_info(self.input, input_type, input_shape)
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.channels = {self.input: input_shape[1]}

    def node(self, op: str, *inputs: str, channels: int | None = None, **attributes) -> str:
        """Any operator; `channels` of its result, by default those of its first input."""
        result = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [result], name=f"/{result}", **attributes))
        self.channels[result] = channels or self.channels.get(inputs[0], 0)
        return result

    def constant(self, values: np.ndarray) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, shape: tuple[int, ...], fan_in: int) -> str:
        """A random weight whose layer keeps the variance of its input."""
        values = self.random.standard_normal(shape) * (2 / fan_in) ** 0.5
        return self.constant(values.astype(np.float32))

    def conv(
        self, x: str, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, pad: int | None = None
    ) -> str:
        """A convolution, by default padded so that stride 1 keeps the size of odd kernels."""
        per_group = self.channels[x] // groups
        fan_in = per_group * kernel * kernel
        weight = self.weight((channels, per_group, kernel, kernel), fan_in)
        bias = self.weight((channels,), 200)
        pads = [kernel // 2 if pad is None else pad] * 4
        return self.node("Conv", x, weight, bias, channels=channels, strides=[stride] * 2, pads=pads,
                         kernel_shape=[kernel] * 2, group=groups)  # fmt: skip

    def clip(self, x: str, low: float, high: float) -> str:
        return self.node("Clip", x, *(self.constant(np.array(limit, np.float32)) for limit in (low, high)))

    def relu6(self, x: str) -> str:
        return self.clip(x, 0.0, 6.0)

    def classifier(self, x: str, classes: int) -> str:
        pooled = self.node("Flatten", self.node("GlobalAveragePool", x))
        channels = self.channels[x]
        return self.node("Gemm", pooled, self.weight((classes, channels), channels), self.weight((classes,), 200),
                         transB=1)  # fmt: skip

    def linear(self, x: str, size: int, outputs: int) -> str:
        """A product with the last axis, and a bias."""
        product = self.node("MatMul", x, self.weight((size, outputs), 2 * size))
        return self.node("Add", product, self.weight((outputs,), 200))

    def layer_norm(self, x: str, size: int) -> str:
        scale = self.constant(np.ones(size, np.float32))
        return self.node("LayerNormalization", x, scale, self.weight((size,), 200), axis=-1)

    def gelu(self, x: str) -> str:
        half, one, root = (self.constant(np.array(value, np.float32)) for value in (0.5, 1, 2**-0.5))
        erf = self.node("Add", self.node("Erf", self.node("Mul", x, root)), one)
        return self.node("Mul", self.node("Mul", x, half), erf)

    def reshape(self, x: str, *shape: int) -> str:
        return self.node("Reshape", x, self.constant(np.array(shape, np.int64)))

    def attention(self, x: str, tokens: int, size: int, heads: int) -> str:
        """Multi-head self-attention over (1, tokens, size)."""
        query, key, value = (
            self.node("Transpose", self.reshape(self.linear(x, size, size), 1, tokens, heads, -1), perm=order)
            for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scale = self.constant(np.array((heads / size) ** 0.5, np.float32))
        scores = self.node("Mul", self.node("MatMul", query, key), scale)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        joined = self.reshape(self.node("Transpose", mixed, perm=[0, 2, 1, 3]), 1, tokens, size)
        return self.linear(joined, size, size)

    def feed_forward(self, x: str, size: int) -> str:
        return self.linear(self.gelu(self.linear(x, size, 4 * size)), 4 * size, size)

    def recurrent(self, op: str, x: str, inputs: int, hidden: int, gates: int) -> str:
        """The states of all steps, (steps, 1, hidden); x is (steps, 1, inputs)."""
        weights = [self.weight((1, gates * hidden, size), 2 * size) for size in (inputs, hidden)]
        bias = self.weight((1, 2 * gates * hidden), 200)
        states = self.node(op, x, *weights, bias, hidden_size=hidden)
        return self.node("Squeeze", states, self.constant(np.array([1], np.int64)))

    def model(self, output: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [self.input_info],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def mobilenet_v2() -> onnx.ModelProto:
    """MobileNetV2 1.0 at 224 x 224: 300.8 M multiply-adds."""
    net = Network("mobilenet_v2", (1, 3, 224, 224))
    x = net.relu6(net.conv(net.input, 32, kernel=3, stride=2))
    blocks = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    for expansion, channels, count, first_stride in blocks:
        for index in range(count):
            x = _inverted_residual(net, x, channels, expansion, first_stride if index == 0 else 1, kernel=3)
    x = net.relu6(net.conv(x, 1280))
    return net.model(net.classifier(x, 1000))


def efficientnet_lite0() -> onnx.ModelProto:
    """EfficientNet-Lite0 at 224 x 224: 385 M multiply-adds."""
    net = Network("efficientnet_lite0", (1, 3, 224, 224))
    x = net.relu6(net.conv(net.input, 32, kernel=3, stride=2))
    blocks = [(1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
              (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)]  # fmt: skip
    for expansion, channels, count, first_stride, kernel in blocks:
        for index in range(count):
            x = _inverted_residual(net, x, channels, expansion, first_stride if index == 0 else 1, kernel)
    x = net.relu6(net.conv(x, 1280))
    return net.model(net.classifier(x, 1000))


def resnet18() -> onnx.ModelProto:
    """ResNet-18 at 224 x 224: 1.81 G multiply-adds."""
    net = Network("resnet18", (1, 3, 224, 224))
    x = net.node("Relu", net.conv(net.input, 64, kernel=7, stride=2))
    x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for channels, first_stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
        for stride in (first_stride, 1):
            shortcut = x if net.channels[x] == channels else net.conv(x, channels, stride=stride)
            y = net.node("Relu", net.conv(x, channels, kernel=3, stride=stride))
            x = net.node("Relu", net.node("Add", net.conv(y, channels, kernel=3), shortcut))
    return net.model(net.classifier(x, 1000))


def keyword_spotting() -> onnx.ModelProto:
    """A depthwise-separable network over 49 x 10 audio features: 2.7 M multiply-adds."""
    net = Network("keyword_spotting", (1, 1, 49, 10))
    x = net.node("Relu", net.conv(net.input, 64, kernel=3, stride=2))
    for _ in range(4):
        x = net.node("Relu", net.conv(x, 64, kernel=3, groups=64))
        x = net.node("Relu", net.conv(x, 64))
    return net.model(net.node("Softmax", net.classifier(x, 12), axis=1))


def mobilenet_v2_int8() -> onnx.ModelProto:
    """MobileNetV2 quantised by onnxruntime: 8-bit weights by channel, 8-bit activations, as Q and DQ nodes."""
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        plain, quantised = Path(folder) / "plain.onnx", Path(folder) / "quantised.onnx"
        onnx.save(mobilenet_v2(), plain)
        quantization.quantize_static(plain, quantised, _RandomImages(), per_channel=True)
        return onnx.load(quantised)


def vit_tiny() -> onnx.ModelProto:
    """ViT-Tiny/16 at 224 x 224: 197 tokens of 192, 12 layers, 3 heads."""
    tokens, size = 197, 192
    net = Network("vit_tiny", (1, 3, 224, 224))
    patches = net.reshape(net.conv(net.input, size, kernel=16, stride=16, pad=0), 1, size, tokens - 1)
    patches = net.node("Transpose", patches, perm=[0, 2, 1])
    x = net.node("Concat", net.weight((1, 1, size), 200), patches, axis=1)
    x = net.node("Add", x, net.weight((1, tokens, size), 200))
    for _ in range(12):
        x = net.node("Add", x, net.attention(net.layer_norm(x, size), tokens, size, heads=3))
        x = net.node("Add", x, net.feed_forward(net.layer_norm(x, size), size))
    first = net.node("Gather", net.layer_norm(x, size), net.constant(np.array(0, np.int64)), axis=1)
    return net.model(net.linear(first, size, 1000))


def bert_mini() -> onnx.ModelProto:
    """BERT-Mini over 128 words: 4 layers of 256, 4 heads, a table of 30,522 words."""
    tokens, size = 128, 256
    net = Network("bert_mini", (1, tokens), TensorProto.INT64)
    words = net.node("Gather", net.weight((30522, size), 200), net.input)
    x = net.layer_norm(net.node("Add", words, net.weight((1, tokens, size), 200)), size)
    for _ in range(4):
        x = net.layer_norm(net.node("Add", x, net.attention(x, tokens, size, heads=4)), size)
        x = net.layer_norm(net.node("Add", x, net.feed_forward(x, size)), size)
    return net.model(x)


def gru_keywords() -> onnx.ModelProto:
    """A GRU of 128 over 100 steps of 40 audio features."""
    net = Network("gru_keywords", (100, 1, 40))
    states = net.recurrent("GRU", net.input, 40, 128, gates=3)
    last = net.node("Gather", states, net.constant(np.array(-1, np.int64)), axis=0)
    return net.model(net.node("Softmax", net.linear(last, 128, 12), axis=-1))


def lstm_forecast() -> onnx.ModelProto:
    """Two LSTM of 64 over 48 steps of 8 values."""
    net = Network("lstm_forecast", (48, 1, 8))
    states = net.recurrent("LSTM", net.recurrent("LSTM", net.input, 8, 64, gates=4), 64, 64, gates=4)
    last = net.node("Gather", states, net.constant(np.array(-1, np.int64)), axis=0)
    return net.model(net.linear(last, 64, 8))


def _inverted_residual(net: Network, x: str, channels: int, expansion: int, stride: int, kernel: int) -> str:
    shortcut = x
    if expansion > 1:
        x = net.relu6(net.conv(x, net.channels[x] * expansion))
    x = net.relu6(net.conv(x, net.channels[x], kernel=kernel, stride=stride, groups=net.channels[x]))
    x = net.conv(x, channels)
    return net.node("Add", x, shortcut) if stride == 1 and net.channels[shortcut] == channels else x


class _RandomImages:
    """What onnxruntime calibrates with: four random images."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.left = 4

    def get_next(self) -> dict[str, np.ndarray] | None:
        self.left -= 1
        image = self.random.standard_normal((1, 3, 224, 224)).astype(np.float32)
        return {"input": image} if self.left >= 0 else None

    def set_range(self, start_index: int, end_index: int) -> None:
        """Part of the protocol; there is one range only."""


_BUILDERS = (
    mobilenet_v2,
    mobilenet_v2_int8,
    efficientnet_lite0,
    resnet18,
    vit_tiny,
    bert_mini,
    gru_keywords,
    lstm_forecast,
    keyword_spotting,
)
NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {build.__name__: build for build in _BUILDERS}

if __name__ == "__main__":
    onnx.save(NETWORKS[sys.argv[1]](), sys.argv[2])
