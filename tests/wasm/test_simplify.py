"""What simplification removes, and that the rest stays."""

from __future__ import annotations

from tosaic.wasm.kernel import Expression
from tosaic.wasm.simplify import simplified


def flips(*constants: int) -> Expression:
    """input ^ c0 ^ c1..."""
    nodes, elements = [("input", (0,), ())], ["i8"]
    for constant in constants:
        value = len(nodes) - 1
        nodes += [("constant", (), (("value", constant),)), ("bitwise_xor", (value, len(nodes)), ())]
        elements += ["i8", "i8"]
    return Expression(tuple(nodes), tuple(elements))


def ops(expression: Expression) -> list[str]:
    return [op for op, _, _ in expression.nodes]


def test_a_flip_and_its_inverse_cancel() -> None:
    assert simplified(flips(-128, -128)) == Expression((("input", (0,), ()),), ("i8",))


def test_flips_become_one() -> None:
    found = simplified(flips(1, 2, 4))
    assert ops(found) == ["input", "constant", "bitwise_xor"]
    assert dict(found.nodes[1][2])["value"] == 7


def test_copies_vanish_and_order_stays() -> None:
    """b - identity(a), with an input that nothing uses."""
    nodes = (
        ("input", (2,), ()),
        ("input", (0,), ()),
        ("identity", (1,), ()),
        ("input", (1,), ()),
        ("sub", (3, 2), ()),
    )
    found = simplified(Expression(nodes, ("f32",) * 5))
    assert found.nodes == (("input", (0,), ()), ("input", (1,), ()), ("sub", (1, 0), ()))


def test_a_value_that_becomes_the_last_stays_usable() -> None:
    nodes = (("result", (), ()), ("input", (0,), ()), ("add", (0, 1), ()), ("identity", (2,), ()))
    assert ops(simplified(Expression(nodes, ("f32",) * 4))) == ["result", "input", "add"]
    nodes = (("result", (), ()), ("input", (0,), ()), ("identity", (0,), ()))
    assert ops(simplified(Expression(nodes, ("f32",) * 3))) == ["result"]
