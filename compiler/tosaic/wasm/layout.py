"""Where each tensor lies relative to its buffer: views instead of copies, wherever all readers can follow strides.

A reshape, slice, transpose... of a tensor is a view of the tensor's buffer, a part of a concatenation is written
where the concatenation wants it. What remains are calls of kernels, in the order of execution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tosaic.wasm.calls import (
    Branch,
    Buffer,
    Call,
    Loop,
    Placed,
    Task,
    condition_call,
    copy_call,
    kernel_call,
)
from tosaic.wasm.expression_builder import ExpressionBuilder, constant, is_table, is_uniform
from tosaic.wasm.graph import Border, Graph, Node, Value, scalar
from tosaic.wasm.grouping import Cluster, clusters, is_pointwise
from tosaic.wasm.kernel import Expression
from tosaic.wasm.strides import follows, writes
from tosaic.wasm.views import MOVEMENTS, Window, moved, tiled


@dataclass(eq=False)
class Work:
    """What one cluster executes: no call if it only renames memory, several if it moves data in pieces.

    `before` are calls for which the plan of memory has a need, not the cluster.
    `begins_stretch`: it and what follows are a function of their own, up to the next work that says so.
    """

    cluster: Cluster | None
    segment: int
    calls: list[Task] = field(default_factory=list)
    before: list[Call] = field(default_factory=list)
    begins_stretch: bool = False

    @property
    def tasks(self) -> list[Task]:
        return [*self.before, *self.calls]


@dataclass
class Layout:
    works: list[Work]
    inputs: list[Placed]
    outputs: list[Placed]


def lay_out(graph: Graph, found: Sequence[Cluster], border_itemsize: Callable[[str], int]) -> Layout:
    """Choose the place of every value and state the kernel calls.

    `border_itemsize(dtype)` is the size of an element at the border: the buffers of inputs and outputs have room
    for it. Outputs are dense and each has a buffer of its own.
    """
    return _Layout(graph, found, border_itemsize).run()


class _Layout:
    def __init__(self, graph: Graph, found: Sequence[Cluster], border_itemsize: Callable[[str], int]) -> None:
        self.graph = graph
        self.clusters = found
        self.border_itemsize = border_itemsize
        self.cluster_of = {node: cluster for cluster in found for node in cluster.nodes}
        self.places: dict[Value, Placed] = {}
        self.results: dict[Value, Border] = {}
        self.tenants: dict[Buffer, list[Value]] = {}
        self.number_of = {cluster: number for number, cluster in enumerate(found)}
        self.foreign: set[Buffer] = set()

    def run(self) -> Layout:
        inputs = [
            self._own(border.value, self._border_bytes(border), is_input=True) for border in self.graph.inputs
        ]
        for border in self.graph.outputs:
            if border.value.producer is not None:
                self.results.setdefault(border.value, border)
        self._place_parts()
        works = [Work(c, c.segment, list(self._calls(c))) for c in self.clusters]
        return Layout(works, inputs, list(self._outputs(works)))

    def run_region(self, inputs: Sequence[Placed], outputs: Sequence[Placed]) -> list[Task]:
        """The calls of a region whose inputs and outputs have their places, all dense."""
        self.foreign = {place.buffer for place in (*inputs, *outputs)}
        self.places.update((border.value, place) for border, place in zip(self.graph.inputs, inputs))
        for border, place in zip(self.graph.outputs, outputs, strict=True):
            if border.value.producer is not None:
                self.results.setdefault(border.value, border)
                self.places.setdefault(border.value, place)
        self._place_parts()
        tasks = [task for cluster in self.clusters for task in self._calls(cluster)]
        values = [border.value for border in self.graph.outputs]
        return [*tasks, *(call for pair in zip(values, outputs) for call in self._brought(*pair))]

    # Places

    def _own(self, value: Value, room: int = 0, pinned: bool = False, is_input: bool = False) -> Placed:
        """A dense buffer for a value alone."""
        buffer = Buffer(max(value.bytes, room), pinned=pinned, is_input=is_input)
        return self._put(value, buffer, Window.whole(value.element, value.shape))

    def _put(self, value: Value, buffer: Buffer, window: Window) -> Placed:
        self.tenants.setdefault(buffer, []).append(value)
        self.places[value] = Placed(buffer, window)
        return self.places[value]

    def _border_bytes(self, border: Border) -> int:
        return border.value.size * self.border_itemsize(border.dtype)

    def _place(self, value: Value) -> Placed:
        """The place of a value; one that has none yet gets a buffer."""
        if value in self.places:
            return self.places[value]
        if value.array is not None:
            buffer = Buffer(value.bytes, array=value.array)
            return self._put(value, buffer, Window.whole(value.element, value.shape))
        if value in self.results:
            return self._own(value, self._border_bytes(self.results[value]), pinned=True)
        return self._own(value)

    def _place_parts(self) -> None:
        """Let the producers of a concatenation's parts write into its result; later concatenations first.

        Where a later one has all parts of an earlier one side by side, the earlier one is a window of it.
        """
        for cluster in reversed(self.clusters):
            if cluster.root.op != "concat" or self._place_beside(cluster.root):
                continue
            whole = self._place(cluster.root.output)
            for part, window in _parts(cluster.root, whole.window):
                if cluster.root.inputs.count(part) == 1 and self._writes(part, window):
                    self._put(part, whole.buffer, window)

    def _place_beside(self, node: Node) -> bool:
        """Place a concatenation where its parts are; False if they do not lie side by side."""
        first = self.places.get(node.inputs[0])
        if first is None or node.output in self.places or any(v.array is not None for v in node.inputs):
            return False
        window = first.window.with_dims(node.output.shape, first.window.strides)
        beside = all(
            self.places.get(part) == Placed(first.buffer, place) for part, place in _parts(node, window)
        )
        if not beside or not self._followed(node.output, window):
            return False
        self._put(node.output, first.buffer, window)
        return True

    def _writes(self, part: Value, window: Window) -> bool:
        """True if the part can be produced in this window and all of its readers can read it there."""
        if part.producer is None or part in self.places or part in self.results or not part.size:
            return False
        cluster = self.cluster_of[part.producer]
        if cluster.root.op in MOVEMENTS or cluster.root.op == "concat":
            return cluster.root.op == "concat" and self._followed(part, window)
        return writes(cluster, window) and self._followed(part, window)

    def _followed(self, value: Value, window: Window) -> bool:
        """True if all readers of a value can read it in this window."""
        return value not in self.results and all(
            follows(user, self.cluster_of[user], value, window) for user in value.users
        )

    # Calls

    def _calls(self, cluster: Cluster) -> Iterator[Task]:
        root = cluster.root
        if not any(value.size for value in cluster.nodes[-1].outputs):
            for value in cluster.nodes[-1].outputs:
                self._place(value)
        elif root.op == "cond_if":
            yield self._branch(root)
        elif root.op == "while_loop":
            yield from self._loop(root)
        elif root.op in MOVEMENTS:
            yield from self._movement(root)
        elif root.op == "concat":
            yield from self._concat(root)
        elif root.op == "pad":
            yield from self._pad(root)
        else:
            yield self._compute(cluster)

    def _movement(self, node: Node) -> Iterator[Call]:
        """Nothing if the result can be a view of the operand; else a copy."""
        source = self._place(node.inputs[0])
        window = moved(node.op, source.window, node.attributes)
        if (
            node.output not in self.places
            and window is not None
            and self._is_free(node.output, source, window)
        ):
            self._put(node.output, source.buffer, window)
            return
        target = self._place(node.output)
        if node.op == "tile":
            window = tiled(source.window, node.attributes["multiples"])
        elif window is None:
            window = source.window
        dense = Window.whole(node.output.element, window.shape)
        yield copy_call(Placed(source.buffer, window), Placed(target.buffer, dense))

    def _is_free(self, value: Value, source: Placed, window: Window) -> bool:
        """True if the value may stay in the buffer of its source, seen through this window."""
        if value not in self.results:
            return self._followed(value, window)
        buffer = source.buffer
        whole = window.view.is_contiguous and window.offset == 0 and buffer.bytes == value.bytes
        owned = not (buffer.is_input or buffer.pinned or buffer.array is not None)
        fits = self._border_bytes(self.results[value]) <= buffer.bytes
        if not (whole and owned and fits):
            return False
        buffer.pinned = True
        return True

    def _concat(self, node: Node) -> Iterator[Call]:
        """Copies of the parts that are not in place."""
        whole = self._place(node.output)
        for part, window in _parts(node, whole.window):
            target = Placed(whole.buffer, window)
            if part.size and self._place(part) != target:
                yield copy_call(self._place(part), target)

    def _pad(self, node: Node) -> Iterator[Call]:
        """Fill the border in slabs, copy the inside."""
        source, target = self._place(node.inputs[0]), self._place(node.output)
        before, after = node.attributes["padding"][::2], node.attributes["padding"][1::2]
        filling = constant(source.window.view.element, node.attributes["pad_const"])
        shape = node.inputs[0].shape
        start, size = [0] * len(shape), list(node.output.shape)
        for axis in range(len(shape)):
            for at, count in ((0, before[axis]), (before[axis] + shape[axis], after[axis])):
                slab = target.window.slice(
                    [*start[:axis], at, *start[axis + 1 :]], [*size[:axis], count, *size[axis + 1 :]]
                )
                if slab.view.size:
                    yield kernel_call("elementwise", [], [Placed(target.buffer, slab)], filling)
            start[axis], size[axis] = before[axis], shape[axis]
        if node.inputs[0].size:
            yield copy_call(source, Placed(target.buffer, target.window.slice(start, size)))

    def _branch(self, node: Node) -> Branch:
        """Both arms read the operands where they are and write into the results' places."""
        condition, *inputs = (self._place(value) for value in node.inputs)
        outputs = [self._place(value) for value in node.outputs]
        then, otherwise = (self._region(graph, inputs, outputs) for graph in node.regions)
        return Branch(condition_call(condition), then, otherwise)

    def _loop(self, node: Node) -> Iterator[Task]:
        """The states are in the results' places. A trip computes the next ones beside them, since it may read all
        of them until its end, and then copies. A state that is only scattered into is changed where it is."""
        test, body = node.regions
        states = [self._place(value) for value in node.outputs]
        starts = [self._place(value) for value in node.inputs]
        inputs = [*states, *starts[len(states) :]]
        following = [
            state if _is_scattered_into(body, i) else Placed(Buffer(value.bytes), _dense(value))
            for i, (state, value) in enumerate(zip(states, node.outputs))
        ]
        goes_on = Placed(Buffer(1), _dense(test.outputs[0].value))
        for value, state in zip(node.inputs, states):
            yield from self._brought(value, state)
        yield Loop(
            self._region(test, inputs, [goes_on]),
            condition_call(goes_on),
            [*self._region(body, inputs, following), *self._copies(following, states)],
            node.attributes["most_trips"],
            node.attributes["exact"],
        )

    def _brought(self, value: Value, target: Placed) -> Iterator[Call]:
        """Have a value in a place."""
        if value.array is not None and is_uniform(value.array):
            yield kernel_call("elementwise", [], [target], constant(value.element, scalar(value.array)))
        else:
            yield from self._copies([self._place(value)], [target])

    def _region(self, graph: Graph, inputs: Sequence[Placed], outputs: Sequence[Placed]) -> list[Task]:
        return _Layout(graph, clusters(graph), self.border_itemsize).run_region(inputs, outputs)

    def _copies(self, sources: Sequence[Placed], targets: Sequence[Placed]) -> list[Call]:
        return [
            copy_call(source, target) for source, target in zip(sources, targets) if _differ(source, target)
        ]

    def _compute(self, cluster: Cluster) -> Call:
        """The call of a root with its own operands, or what they are computed from, and of the elementwise ops fused
        into it."""
        root = cluster.root
        builder = ExpressionBuilder(self._place, cluster.result.shape)
        op, result, prologue = "elementwise", "", None
        attributes: Mapping[str, Any] = {}
        if not is_pointwise(root):
            op, result, attributes = root.op, root.output.element, root.attributes
            prologue = self._prologue(cluster, builder)
            if prologue is None:
                builder.inputs = [(self._place(value), value.array) for value in root.inputs]
            builder.result(root.output)
        for node in cluster.fused:
            builder.add(node)
        if is_pointwise(root):
            self._overwrite(cluster)
        outputs = (
            [self._place(cluster.result)] if len(root.outputs) == 1 else list(map(self._place, root.outputs))
        )
        epilogue = builder.build() if cluster.fused else None
        if op == "scatter":
            attributes = {**attributes, "in_place": builder.inputs[0][0] == outputs[0]}
        return kernel_call(op, builder.inputs, outputs, epilogue, attributes, result, prologue)

    def _prologue(self, cluster: Cluster, epilogue: ExpressionBuilder) -> Expression | None:
        """What computes the operand of the root; its inputs come first."""
        if not cluster.prologue:
            return None
        builder = ExpressionBuilder(self._place, cluster.root.inputs[0].shape)
        for node in cluster.prologue:
            builder.add(node)
        epilogue.inputs = builder.inputs
        return builder.build()

    def _overwrite(self, cluster: Cluster) -> None:
        """Let the result take the place of an operand that nobody reads afterwards.

        Each element is read before its own place is written, so the two may be the same memory.
        """
        result = cluster.result
        if result in self.places or result in self.results:
            return
        whole = Window.whole(result.element, result.shape)
        for value in cluster.operands():
            buffer = self._place(value).buffer
            if buffer.bytes == result.bytes and self._is_spent(buffer, cluster, whole):
                self._put(result, buffer, whole)
                return

    def _is_spent(self, buffer: Buffer, cluster: Cluster, window: Window) -> bool:
        """True if nobody reads the buffer but the cluster, element by element through this window, and others
        that have run already."""
        if buffer.pinned or buffer.is_input or buffer.array is not None or buffer in self.foreign:
            return False
        now = self.number_of[cluster]
        for tenant in self.tenants[buffer]:
            readers = [self.cluster_of[user] for user in tenant.users]
            if tenant in self.results or any(self.number_of[reader] > now for reader in readers):
                return False
            aligned = self.places[tenant].window.with_element(window.view.element) == window
            looked_up = any(is_table(tenant, user) for user in cluster.fused)
            if cluster in readers and (looked_up or not aligned):
                return False
        return True

    def _outputs(self, works: list[Work]) -> Iterator[Placed]:
        """The places of the results; what is no kernel's own result, or a result twice, is copied at the end."""
        taken: set[Value] = set()
        for border in self.graph.outputs:
            value = border.value
            if value in self.results and value not in taken:
                taken.add(value)
                yield self._place(value)
                continue
            target = Placed(
                Buffer(max(value.bytes, self._border_bytes(border)), pinned=True),
                Window.whole(value.element, value.shape),
            )
            if not works:
                works.append(Work(None, 0))
            if value.size:
                works[-1].calls.append(copy_call(self._place(value), target))
            yield target


def _is_scattered_into(body: Graph, state: int) -> bool:
    """True if a loop's body does nothing with a state but write some of its rows."""
    before, after = body.inputs[state].value, body.outputs[state].value
    node = after.producer
    return (
        node is not None
        and node.op == "scatter"
        and node.inputs[0] is before
        and node.inputs.count(before) == 1
        and before.users == [node]
        and [border.value for border in body.outputs].count(after) == 1
        and before not in [border.value for border in body.outputs]
    )


def _dense(value: Value) -> Window:
    return Window.whole(value.element, value.shape)


def _differ(source: Placed, target: Placed) -> bool:
    """True if a tensor has elements and they are not in place."""
    return bool(target.window.view.size) and source != target


def _parts(node: Node, whole: Window) -> Iterator[tuple[Value, Window]]:
    """The operands of a concatenation and where they lie in its result."""
    axis = node.attributes["axis"]
    start = [0] * len(node.output.shape)
    for part in node.inputs:
        yield part, whole.slice(start, part.shape)
        start[axis] += part.shape[axis]
