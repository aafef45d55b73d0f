"""Which ops become one kernel: elementwise chains are fused into one loop nest, or into what computes their operand.

A cluster is a root (a product, a pooling, a reduction..., or the first of a chain of elementwise ops) and the
elementwise ops that are computed on its result while it is in registers; a reduction also has those before it that only
it reads. Intermediate results are never stored, so every reader of one must be in the cluster, and the cluster has one
result. Ops that only move data are clusters of their own: whether they cost anything is for the layout to say.

Each op carries its cluster's number as `ic.kernel`. Numbers follow the order of execution, and where they are
present they are obeyed, so a program that is cut between kernels later keeps its kernels, their order, and its bits.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from torch_mlir import ir

from tosaic.wasm.graph import Graph, Node, Value
from tosaic.wasm.lanes import FLOAT, KINDS
from tosaic.wasm.translate import ELEMENTWISE

KERNEL_ATTRIBUTE = "ic.kernel"

MATRIX_OPS = frozenset("conv2d conv3d depthwise_conv2d transpose_conv2d matmul matmul_t".split())
"""Sums of products, computed in register tiles."""

_POINTWISE = ELEMENTWISE - {"identity"} | {"table"}
REDUCTIONS = frozenset("reduce_all reduce_any reduce_max reduce_min reduce_product reduce_sum".split())

_EPILOGUE_ROOTS = MATRIX_OPS | REDUCTIONS | {"argmax", "avg_pool2d", "gather", "max_pool2d", "resize"}
_LONG_SEQUENCES = frozenset("cos erf exp intdiv log pow sigmoid sin table tanh".split())
"""Ops of some 20 operators and more: in the epilogue of a register tile each accumulator would hold a copy of them,
which costs more code than a pass over the result costs instructions."""

_IN_PROLOGUE = _POINTWISE - _LONG_SEQUENCES - {"rescale"}
"""What a reduction computes on its way: its loops are unrolled, so these are short (no roundings to narrow floats)."""

_MOST_NODES = 48
_MOST_PROLOGUE_NODES = 12
_MOST_INPUTS = 12


@dataclass(eq=False)
class Cluster:
    """Ops that one kernel computes: the root, then elementwise ops in program order; before the root those of the
    prologue, which compute its operand."""

    root: Node
    nodes: list[Node] = field(default_factory=list)
    prologue: list[Node] = field(default_factory=list)

    @property
    def fused(self) -> list[Node]:
        """The elementwise ops after the root, those of an elementwise root included."""
        return self.nodes if self.root.op in _POINTWISE else self.nodes[len(self.prologue) + 1 :]

    @property
    def result(self) -> Value:
        return self.nodes[-1].output

    @property
    def segment(self) -> int:
        return self.root.segment

    def operands(self) -> Iterator[Value]:
        """Values that come from outside, each once, in the order of their use."""
        inner = {value for node in self.nodes for value in node.outputs}
        yield from dict.fromkeys(v for node in self.nodes for v in node.inputs if v not in inner)


def is_pointwise(node: Node) -> bool:
    """True for elementwise arithmetic or a look-up (`identity` only moves data)."""
    return node.op in _POINTWISE


def clusters(graph: Graph) -> list[Cluster]:
    """All kernels of the program in the order of execution; `graph.nodes` are brought into the same order.

    Sets `ic.kernel` on every op that is not a constant.
    """
    numbers = _numbers(graph)
    graph.nodes.sort(key=lambda node: (node.segment, numbers[node], node.index))
    for index, node in enumerate(graph.nodes):
        node.index = index
    for node in graph.nodes:
        for value in node.outputs:
            value.users.sort(key=lambda user: user.index)
    found = _Fusion(graph, lambda node: (node.segment, numbers[node])).run()
    _write_numbers(graph, found)
    return found


def _numbers(graph: Graph) -> dict[Node, int]:
    """The kernel of each node, as its ops say or else by fusing."""
    numbers = {node: _number(node.operation) for node in graph.nodes}
    if all(number is not None for number in numbers.values()):
        return numbers  # type: ignore[return-value]
    found = _Fusion(graph, lambda node: node.segment).run()
    return {node: number for number, cluster in enumerate(found) for node in cluster.nodes}


def _number(operation: ir.Operation) -> int | None:
    if KERNEL_ATTRIBUTE not in operation.attributes:
        return None
    return ir.IntegerAttr(operation.attributes[KERNEL_ATTRIBUTE]).value


def _write_numbers(graph: Graph, found: list[Cluster]) -> None:
    """Number the clusters; what was folded belongs to its first reader."""
    if not found:
        return
    type = ir.IntegerType.get_signless(64, found[0].root.operation.context)
    attributes = [ir.IntegerAttr.get(type, number) for number in range(len(found))]
    for number, operations in enumerate(operations_of(graph, found)):
        for operation in operations:
            operation.attributes[KERNEL_ATTRIBUTE] = attributes[number]


def operations_of(graph: Graph, found: Sequence[Cluster]) -> list[list[ir.Operation]]:
    """The ops of each cluster, in program order; what was folded belongs to the first cluster that reads it.

    Without any cluster it belongs to the copy into the results.
    """
    if not found:
        return [[folded.operation for folded in graph.folded]] if graph.folded else []
    operations = [[node.operation for node in cluster.nodes] for cluster in found]
    first_reader: dict[Value, int] = {}
    for number, cluster in reversed(list(enumerate(found))):
        first_reader.update((value, number) for value in cluster.operands())
    for folded in reversed(graph.folded):
        number = first_reader.get(folded.output, 0)
        operations[number].insert(0, folded.operation)
        first_reader.update((v, min(number, first_reader.get(v, number))) for v in folded.inputs)
    return operations


class _Fusion:
    """One pass over the graph; nodes of different units are never fused."""

    def __init__(self, graph: Graph, unit: Callable[[Node], Hashable]) -> None:
        self.graph = graph
        self.unit = unit
        self.results = {border.value for border in graph.outputs}
        self.cluster_of: dict[Node, Cluster] = {}

    def run(self) -> list[Cluster]:
        """Later roots first, since a sum of two products belongs to the one that is computed last."""
        for node in reversed(self.graph.nodes):
            if node.op in _EPILOGUE_ROOTS:
                self._grow(node)
        for node in self.graph.nodes:
            if node.op in REDUCTIONS:
                self._compute_on_the_way(self.cluster_of[node])
        for node in self.graph.nodes:
            if node not in self.cluster_of:
                self._grow(node)
        found = dict.fromkeys(self.cluster_of[node] for node in self.graph.nodes)
        return sorted(found, key=lambda cluster: cluster.nodes[-1].index)

    def _grow(self, root: Node) -> None:
        cluster = Cluster(root, [root])
        self.cluster_of[root] = cluster
        if not (root.op in _EPILOGUE_ROOTS or is_pointwise(root)):
            return
        while (region := self._region(cluster)) is not None:
            self._claim(cluster, region)
        while (producer := self._absorbable(cluster)) is not None:
            self._claim(cluster, [producer])

    def _compute_on_the_way(self, cluster: Cluster) -> None:
        """Let a reduction compute the elementwise ops that only it reads."""
        while (node := self._before(cluster)) is not None:
            cluster.prologue = sorted([node, *cluster.prologue], key=lambda other: other.index)
            self.cluster_of[node] = cluster
        cluster.nodes = [*cluster.prologue, *cluster.nodes]

    def _before(self, cluster: Cluster) -> Node | None:
        """An op that only the root or its prologue reads."""
        operand = cluster.root.inputs[0]
        inner = {cluster.root, *cluster.prologue}
        for value in dict.fromkeys([operand, *(v for node in cluster.prologue for v in node.inputs)]):
            node = value.producer
            if node is None or node in inner or value in self.results or not inner.issuperset(value.users):
                continue
            if self._fits_before(cluster, node):
                return node
        return None

    def _fits_before(self, cluster: Cluster, node: Node) -> bool:
        return (
            node.op in _IN_PROLOGUE
            and (node.output.element == "f32" or KINDS[node.output.element] != FLOAT)
            and node not in self.cluster_of
            and self.unit(node) == self.unit(cluster.root)
            and node.output.shape == cluster.root.inputs[0].shape
            and len(cluster.prologue) < _MOST_PROLOGUE_NODES
            and self._input_count(cluster, [*cluster.prologue, node]) <= _MOST_INPUTS
            and any(value.array is None for value in node.inputs)
        )

    def _claim(self, cluster: Cluster, nodes: list[Node]) -> None:
        cluster.nodes += nodes
        cluster.nodes[1:] = sorted(cluster.nodes[1:], key=lambda node: node.index)
        if is_pointwise(cluster.root):
            cluster.nodes.sort(key=lambda node: node.index)
        self.cluster_of.update((node, cluster) for node in nodes)

    def _region(self, cluster: Cluster) -> list[Node] | None:
        """The shortest run of ops after the cluster through which all of its result flows into one value."""
        readers = {cluster.result: self._readers(cluster.result)}
        heap = [user.index for user in cluster.result.users]
        region: list[Node] = []
        while heap:
            node = self.graph.nodes[heapq.heappop(heap)]
            if region and node is region[-1]:
                continue
            region.append(node)
            if not self._fits(cluster, node, region):
                return None
            for value in dict.fromkeys(node.inputs):
                if value in readers:
                    readers[value] -= 1
                    if not readers[value]:
                        del readers[value]
            if not readers:
                return region
            readers[node.output] = self._readers(node.output)
            heap = [*heap, *(user.index for user in node.output.users)]
            heapq.heapify(heap)
        return None

    def _readers(self, value: Value) -> int:
        return len(value.users) + (value in self.results)

    def _absorbable(self, cluster: Cluster) -> Node | None:
        """An elementwise op that only the elementwise ops of this cluster read."""
        fused = set(cluster.fused)
        for value in cluster.operands():
            producer = value.producer
            if producer is None or value in self.results or not self._fits(cluster, producer, [producer]):
                continue
            if fused.issuperset(value.users):
                return producer
        return None

    def _fits(self, cluster: Cluster, node: Node, added: list[Node]) -> bool:
        return (
            is_pointwise(node)
            and node not in self.cluster_of
            and self.unit(node) == self.unit(cluster.root)
            and node.output.shape == cluster.root.output.shape
            and not (cluster.root.op in MATRIX_OPS and node.op in _LONG_SEQUENCES)
            and len(cluster.nodes) + len(added) <= _MOST_NODES
            and self._input_count(cluster, added) <= _MOST_INPUTS
        )

    def _input_count(self, cluster: Cluster, added: list[Node]) -> int:
        nodes = [*cluster.nodes, *added]
        inner = {value for node in nodes for value in node.outputs}
        return len(
            {
                v
                for node in nodes
                for v in node.inputs
                if v not in inner and not (v.array is not None and v.size == 1)
            }
        )
