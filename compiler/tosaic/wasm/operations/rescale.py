"""Rescaling of integers by multipliers and shifts (TOSA RESCALE, apply_scale_32 and apply_scale_16)."""

from __future__ import annotations

from tosaic.wasm.emission import Emission, Operands
from tosaic.wasm.function import Function
from tosaic.wasm.lanes import (
    INT64,
    KINDS,
    Push,
    low_words,
    saturate,
    saturate_unsigned,
    unsigned,
    zero_extend,
)
from tosaic.wasm.math import splat_i32, splat_i64

SHIFT_RANGE = "shift_range"
"""Attribute of a rescale whose shifts are given as factors: the smallest and the largest shift."""


def push_scaled(f: Function, lanes: int, x: int, multiplier: int, shift: int) -> None:
    """Push i32 lanes times a constant, shifted right with rounding (TOSA apply_scale_32, single rounding)."""
    halves = ("low", "high") if lanes > 2 else ("low",)
    _scale_by_constant(f, x, lambda: splat_i32(f, multiplier), shift, False, halves)


def rescale(e: Emission, node: Operands) -> None:
    """clip((value - input_zp) * multiplier >> shift, rounded, + output_zp); TOSA RESCALE."""
    value, multiplier, shift, *zero_points = node.arguments
    input_zp, output_zp = (int(e.constant(zp) or 0) for zp in zero_points) if zero_points else (0, 0)
    flags, f = node.attributes, e.f
    source, target = e.element(value), e.element(node.index)
    e.push(value)
    if flags.get("input_unsigned", False):
        zero_extend(f, source)
        input_zp = unsigned(input_zp, source)
    if flags.get("output_unsigned", False):
        output_zp = unsigned(output_zp, target)
    if input_zp:
        (splat_i64 if KINDS[source] == INT64 else splat_i32)(f, input_zp)
        f.op("i64x2.sub" if KINDS[source] == INT64 else "i32x4.sub")
    x = f.local("v128")
    f.set(x)
    double_round = flags.get("rounding_mode", "SINGLE_ROUND") == "DOUBLE_ROUND" and flags.get("scale32", True)
    constant_shift = e.constant(shift)
    locals = {index: e.push_local(index) for index in (multiplier, shift) if e.constant(index) is None}

    def push_multiplier() -> None:
        f.get(locals[multiplier]) if multiplier in locals else e.push(multiplier)

    amount: int | Push = (lambda: f.get(locals[shift])) if constant_shift is None else int(constant_shift)
    if SHIFT_RANGE in flags:
        _scale_by_factors(e, x, push_multiplier, amount, flags[SHIFT_RANGE], target)  # type: ignore[arg-type]
    else:
        of_kind = _scale_i64 if KINDS[source] == INT64 else scale
        of_kind(e, x, push_multiplier, amount, double_round)
    f.release(x, *locals.values())
    if output_zp:
        splat_i32(f, output_zp)
        f.op("i32x4.add")
    if flags.get("output_unsigned", False):
        saturate_unsigned(f, target)
    else:
        saturate(f, target)


def scale(e: Emission, x: int, multiplier: Push, shift: int | Push, double_round: bool) -> None:
    """Push (x * multiplier + rounding) >> shift of i32 lanes; the product has 64 bits."""
    halves = ("low", "high") if e.lanes > 2 else ("low",)
    if isinstance(shift, int):
        _scale_by_constant(e.f, x, multiplier, shift, double_round and shift > 31, halves)
    else:
        _scale_by_lanes(e, x, multiplier, shift, double_round)


def _scale_by_constant(
    f: Function, x: int, multiplier: Push, shift: int, double_round: bool, halves: tuple[str, ...]
) -> None:
    for half in halves:
        f.get(x)
        multiplier()
        f.op(f"i64x2.extmul_{half}_i32x4_s")
        splat_i64(f, (1 << shift - 1) + (double_round << 30))
        f.op("i64x2.add")
        if double_round:  # 2**30 towards the sign of x
            f.get(x)
            f.i32(31)
            f.op("i32x4.shr_s")
            f.op(f"i64x2.extend_{half}_i32x4_s")
            splat_i64(f, -(1 << 31))
            f.op("v128.and")
            f.op("i64x2.add")
        if shift < 32:
            f.i32(shift)
            f.op("i64x2.shr_s")
    # From 32 on the high words hold the result, and one narrow shift does for both halves.
    _join_words(f, halves, high=shift >= 32)
    if shift > 32:
        f.i32(shift - 32)
        f.op("i32x4.shr_s")


def takes_factors(smallest: int, largest: int) -> bool:
    """True if shifts of this range can be given as factors: `t * factor` must fit 64 bits."""
    return largest <= 2 * smallest and largest - smallest <= 30


def _scale_by_factors(
    e: Emission, x: int, multiplier: Push, factor: Push, shifts: tuple[int, int], target: str
) -> None:
    """Push (x * multiplier + rounding) >> shift where the lanes hold factor = 2**(largest - shift) for the shift.

    With t = (x * multiplier) >> (smallest - 1) that is (t * factor + 2**d) >> (d + 1), d = largest - smallest.
    """
    f, (smallest, largest) = e.f, shifts
    distance = largest - smallest
    bits = {"i8": 8, "i16": 16}.get(target, 32)
    if smallest > 32 and 2 * (distance + 1) + bits < 31:
        _scale_by_factors_i32(e, x, multiplier, factor, shifts, bits)
        return
    halves = ("low", "high") if e.lanes > 2 else ("low",)
    for half in halves:
        f.get(x)
        multiplier()
        f.op(f"i64x2.extmul_{half}_i32x4_s")
        f.i32(smallest - 1)
        f.op("i64x2.shr_s")
        factor()
        f.op(f"i64x2.extend_{half}_i32x4_s")
        f.op("i64x2.mul")
        splat_i64(f, 1 << distance)
        f.op("i64x2.add")
        f.i32(distance + 1)
        f.op("i64x2.shr_s")
    _join_words(f, halves, high=False)


def _scale_by_factors_i32(
    e: Emission, x: int, multiplier: Push, factor: Push, shifts: tuple[int, int], bits: int
) -> None:
    """The same for results that are saturated to `bits`: t fits 32 bits and is clamped where it exceeds them anyway."""
    f, (smallest, largest) = e.f, shifts
    distance = largest - smallest
    halves = ("low", "high") if e.lanes > 2 else ("low",)
    for half in halves:
        f.get(x)
        multiplier()
        f.op(f"i64x2.extmul_{half}_i32x4_s")
    _join_words(f, halves, high=True)
    if smallest > 33:
        f.i32(smallest - 33)
        f.op("i32x4.shr_s")
    limit = 1 << distance + 1 + bits + 1
    for operator, bound in (("i32x4.max_s", -limit), ("i32x4.min_s", limit)):
        splat_i32(f, bound)
        f.op(operator)
    factor()
    f.op("i32x4.mul")
    splat_i32(f, 1 << distance)
    f.op("i32x4.add")
    f.i32(distance + 1)
    f.op("i32x4.shr_s")


def _join_words(f: Function, halves: tuple[str, ...], high: bool) -> None:
    """One or two vectors of i64 lanes on the stack -> their high or low words as i32 lanes."""
    if len(halves) == 1:
        splat_i32(f, 0)
    first = 4 if high else 0
    f.shuffle([base + first + i for base in (0, 8, 16, 24) for i in range(4)])


def _scale_by_lanes(e: Emission, x: int, multiplier: Push, shift: Push, double_round: bool) -> None:
    """Lane by lane in i64, for shifts that differ."""
    f = e.f
    result, amount = f.local("v128"), f.local("i64")
    for lane in range(e.lanes):
        if lane:
            f.get(result)
        else:
            f.get(x)
        f.get(x)
        f.lane("i32x4.extract_lane", lane)
        f.op("i64.extend_i32_s")
        multiplier()
        f.lane("i32x4.extract_lane", lane)
        f.op("i64.extend_i32_s")
        f.op("i64.mul")
        f.i64(1)
        shift()
        f.lane("i32x4.extract_lane", lane)
        f.op("i64.extend_i32_u")
        f.tee(amount)
        f.i64(1)
        f.op("i64.sub")
        f.op("i64.shl")
        f.op("i64.add")
        if double_round:
            _double_round_lane(f, x, amount, lane)
        f.get(amount)
        f.op("i64.shr_s")
        f.op("i32.wrap_i64")
        f.lane("i32x4.replace_lane", lane)
        f.set(result)
    f.get(result)
    f.release(result)


def _double_round_lane(f: Function, x: int, amount: int, lane: int) -> None:
    """Add 2**30 with the sign of x where the shift exceeds 31."""
    f.i64(1 << 30)
    f.i64(-(1 << 30))
    f.get(x)
    f.lane("i32x4.extract_lane", lane)
    f.i32(0)
    f.op("i32.ge_s")
    f.op("select")
    f.i64(0)
    f.get(amount)
    f.i64(31)
    f.op("i64.gt_s")
    f.op("select")
    f.op("i64.add")


def _scale_i64(e: Emission, x: int, multiplier: Push, shift: int | Push, double_round: bool) -> None:
    """Push (x * multiplier + rounding) >> shift of two i64 lanes as i32 (48-bit values, 16-bit multipliers)."""
    f = e.f
    if not isinstance(shift, int):
        _scale_i64_by_lanes(e, x, multiplier, shift)
        return
    f.get(x)
    multiplier()
    f.op("i64x2.extend_low_i32x4_s")
    f.op("i64x2.mul")
    splat_i64(f, 1 << shift - 1)
    f.op("i64x2.add")
    f.i32(shift)
    f.op("i64x2.shr_s")
    low_words(f)


def _scale_i64_by_lanes(e: Emission, x: int, multiplier: Push, shift: Push) -> None:
    f = e.f
    amount = f.local("i64")
    f.get(x)
    for lane in range(e.lanes):
        f.get(x)
        f.lane("i64x2.extract_lane", lane)
        multiplier()
        f.lane("i32x4.extract_lane", lane)
        f.op("i64.extend_i32_s")
        f.op("i64.mul")
        f.i64(1)
        shift()
        f.lane("i32x4.extract_lane", lane)
        f.op("i64.extend_i32_u")
        f.tee(amount)
        f.i64(1)
        f.op("i64.sub")
        f.op("i64.shl")
        f.op("i64.add")
        f.get(amount)
        f.op("i64.shr_s")
        f.lane("i64x2.replace_lane", lane)
    f.release(amount)
    low_words(f)
