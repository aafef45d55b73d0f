"""Sequences, optional values and maps, whose tensors are known one by one: none is left in the static graph."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from tosaic.frontend.added_nodes import AddedNodes
from tosaic.frontend.control_flow import BIND, UnresolvedError
from tosaic.frontend.ml_type_rules import ML
from tosaic.frontend.static_graph import TensorSequence, Value, constant

if TYPE_CHECKING:
    from tosaic.frontend.resolution import Resolver

_log = logging.getLogger(__name__)

Operands = Sequence[Value | None]
Attributes = Mapping[str, Any]
Rule = Callable[[AddedNodes, Operands, Attributes], Value]


def resolve_sequence(
    resolver: Resolver, node: onnx.NodeProto, name: str, operands: Operands
) -> tuple[AddedNodes, Value] | None:
    """What a node that makes or reads a sequence or an optional value stands for, and its result.

    None for every other node, and where an operand is not known.

    Raises:
        UnresolvedError: data decide what it stands for, or it takes a sequence that nobody can give it.
    """
    takes_sequence = any(isinstance(operand, TensorSequence) for operand in operands)
    rule = _RULES.get((node.domain, node.op_type))
    if rule is None and takes_sequence:
        raise UnresolvedError("it takes a sequence, and how often or whether it runs depends on data")
    if rule is None or (node.op_type == "Identity" and not takes_sequence):
        return None
    if any(operand is not None and not operand.is_known for operand in operands):
        return None
    added = AddedNodes(resolver, name)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return added, rule(added, operands, attributes)


def _construct(added: AddedNodes, operands: Operands, attributes: Attributes) -> Value:
    return TensorSequence(added.name, elements=[operand for operand in operands if operand is not None])


def _insert(added: AddedNodes, operands: Operands, attributes: Attributes) -> Value:
    elements, element = _elements(operands), operands[1]
    assert element is not None
    place = _place(operands, 2, len(elements), default=len(elements), last=len(elements))
    return TensorSequence(added.name, elements=[*elements[:place], element, *elements[place:]])


def _erase(added: AddedNodes, operands: Operands, attributes: Attributes) -> Value:
    elements = _elements(operands)
    place = _place(operands, 1, len(elements), default=len(elements) - 1)
    return TensorSequence(added.name, elements=[e for i, e in enumerate(elements) if i != place])


def _at(added: AddedNodes, operands: Operands, attributes: Attributes) -> Value:
    elements = _elements(operands)
    return elements[_place(operands, 1, len(elements), default=0)]


def _length(added: AddedNodes, operands: Operands, attributes: Attributes) -> Value:
    return constant(added.name, np.array(len(_elements(operands)), np.int64))


def _split(added: AddedNodes, operands: Operands, attributes: Attributes) -> Value:
    """Pieces along an axis; without sizes they have one place each, whose axis `keepdims=0` drops."""
    data, sizes = operands[0], operands[1] if len(operands) > 1 else None
    assert data is not None
    axis = attributes.get("axis", 0) % len(data.shape)
    ends = np.cumsum(_sizes(sizes, data.shape[axis])).tolist()
    pieces = [_slice(added, data, axis, start, end) for start, end in itertools.pairwise([0, *ends])]
    if sizes is None and not attributes.get("keepdims", 1):
        shape = [*data.shape[:axis], *data.shape[axis + 1 :]]
        pieces = [_reshape(added, piece, shape) for piece in pieces]
    return TensorSequence(added.name, elements=pieces)


def _sizes(sizes: Value | None, length: int) -> list[int]:
    """How long each piece is; one number is that of all pieces but the last."""
    if sizes is None:
        return [1] * length
    if sizes.array is None:
        raise UnresolvedError("the sizes of its pieces depend on data", BIND)
    if sizes.array.ndim:
        return [int(size) for size in sizes.array]
    size = int(sizes.array)
    return [min(size, length - start) for start in range(0, length, size)]


def _slice(added: AddedNodes, data: Value, axis: int, start: int, end: int) -> Value:
    places = (constant(what, np.array([place])) for what, place in (("s", start), ("e", end), ("a", axis)))
    return added.apply("Slice", [data, *places])


def _reshape(added: AddedNodes, data: Value, shape: Sequence[int]) -> Value:
    return added.apply("Reshape", [data, constant("shape", np.array(shape, np.int64))])


def _concat(added: AddedNodes, operands: Operands, attributes: Attributes) -> Value:
    """The tensors one after the other, with `new_axis` along an axis of their own."""
    elements, axis = _elements(operands), attributes["axis"]
    if not elements:
        raise UnresolvedError("its sequence is empty")
    if attributes.get("new_axis", 0):
        rank = len(elements[0].shape) + 1
        axis %= rank
        elements = [_reshape(added, e, [*e.shape[:axis], 1, *e.shape[axis:]]) for e in elements]
    return added.apply("Concat", elements, axis=axis)


def _optional(added: AddedNodes, operands: Operands, attributes: Attributes) -> Value:
    if not operands or operands[0] is None:
        raise UnresolvedError("its optional value is empty")
    return operands[0]


def _unzipped(added: AddedNodes, operands: Operands, attributes: Attributes) -> Value:
    """A map from labels to scores for each row is no tensor; the scores are, in the order of the labels."""
    (scores,) = operands
    assert scores is not None
    labels = attributes.get("classlabels_int64s") or [s.decode() for s in attributes["classlabels_strings"]]
    _log.warning(
        "ZipMap '%s' is left out: instead of maps the model gives a tensor of scores, its columns in the order %s",
        added.name,
        ", ".join(map(str, labels)),
    )
    return scores


def _has_element(added: AddedNodes, operands: Operands, attributes: Attributes) -> Value:
    return constant(added.name, np.array(bool(operands) and operands[0] is not None))


_RULES: dict[tuple[str, str], Rule] = {
    ("", "ConcatFromSequence"): _concat,
    ("", "Identity"): _optional,
    ("", "Optional"): _optional,
    ("", "OptionalGetElement"): _optional,
    ("", "OptionalHasElement"): _has_element,
    ("", "SequenceAt"): _at,
    ("", "SequenceConstruct"): _construct,
    ("", "SequenceEmpty"): _construct,
    ("", "SequenceErase"): _erase,
    ("", "SequenceInsert"): _insert,
    ("", "SequenceLength"): _length,
    ("", "SplitToSequence"): _split,
    (ML, "ZipMap"): _unzipped,
}


def _elements(operands: Operands) -> list[Value]:
    sequence = operands[0]
    if not isinstance(sequence, TensorSequence):
        raise UnresolvedError("its operand is no sequence")
    return sequence.elements


def _place(operands: Operands, index: int, count: int, default: int, last: int | None = None) -> int:
    """A position up to `last` (that of the last element) in a sequence of `count`; it may count from the end."""
    position = operands[index] if len(operands) > index else None
    if position is not None and position.array is None:
        raise UnresolvedError("its position in the sequence depends on data", BIND)
    place = default if position is None or position.array is None else int(position.array.reshape(()))
    if not -count <= place <= (count - 1 if last is None else last):
        raise UnresolvedError(f"its position {place} is outside of a sequence of {count}")
    return place + count if place < 0 else place
