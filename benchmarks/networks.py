"""Well-known networks with random weights of fixed seeds, built here so that nothing has to be downloaded.

python benchmarks/networks.py mobilenet_v2 OUT.onnx
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Network:
    """A model under construction: each method adds one layer and returns the name of its result."""

    def __init__(self, name: str, input_shape: tuple[int, ...], seed: int = 0) -> None:
        self.name = name
        self.input = "input"
        self.input_shape = input_shape
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.channels = {self.input: input_shape[1]}

    def node(self, op: str, *inputs: str, channels: int | None = None, **attributes) -> str:
        """Any operator; `channels` of its result, by default those of its first input."""
        result = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [result], name=f"/{result}", **attributes))
        self.channels[result] = channels or self.channels.get(inputs[0], 0)
        return result

    def weight(self, shape: tuple[int, ...], fan_in: int) -> str:
        """A random weight whose layer keeps the variance of its input."""
        name = f"weight_{len(self.weights)}"
        values = self.random.standard_normal(shape) * (2 / fan_in) ** 0.5
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(self, x: str, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
        per_group = self.channels[x] // groups
        fan_in = per_group * kernel * kernel
        weight = self.weight((channels, per_group, kernel, kernel), fan_in)
        bias = self.weight((channels,), 200)
        pads = [kernel // 2] * 4
        return self.node("Conv", x, weight, bias, channels=channels, strides=[stride] * 2, pads=pads,
                         kernel_shape=[kernel] * 2, group=groups)  # fmt: skip

    def clip(self, x: str, low: float, high: float) -> str:
        limits = []
        for value in (low, high):
            name = f"limit_{value}"
            if all(w.name != name for w in self.weights):
                self.weights.append(numpy_helper.from_array(np.array(value, np.float32), name))
            limits.append(name)
        return self.node("Clip", x, *limits)

    def relu6(self, x: str) -> str:
        return self.clip(x, 0.0, 6.0)

    def classifier(self, x: str, classes: int) -> str:
        pooled = self.node("Flatten", self.node("GlobalAveragePool", x))
        channels = self.channels[x]
        return self.node("Gemm", pooled, self.weight((classes, channels), channels), self.weight((classes,), 200),
                         transB=1)  # fmt: skip

    def model(self, output: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(self.input, TensorProto.FLOAT, self.input_shape)],
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


def _inverted_residual(net: Network, x: str, channels: int, expansion: int, stride: int, kernel: int) -> str:
    shortcut = x
    if expansion > 1:
        x = net.relu6(net.conv(x, net.channels[x] * expansion))
    x = net.relu6(net.conv(x, net.channels[x], kernel=kernel, stride=stride, groups=net.channels[x]))
    x = net.conv(x, channels)
    return net.node("Add", x, shortcut) if stride == 1 and net.channels[shortcut] == channels else x


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    build.__name__: build for build in (mobilenet_v2, efficientnet_lite0, resnet18, keyword_spotting)
}

if __name__ == "__main__":
    onnx.save(NETWORKS[sys.argv[1]](), sys.argv[2])
