"""Rescaling of integers by multipliers and shifts (TOSA RESCALE, apply_scale_32 and apply_scale_16)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

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


def rescale(e: Emission, node: Operands) -> None:
    """clip((value - input_zp) * multiplier >> shift, rounded, + output_zp); TOSA RESCALE."""
    value, multiplier, shift, *_ = node.arguments
    flags, f, target = node.attributes, e.f, e.element(node.index)
    input_zp, output_zp = _zero_points(e, node)
    is_wide = e.kind(value) == INT64
    bound = _push_centred(e, value, input_zp, flags.get("input_unsigned", False))
    constant_shift = e.constant(shift)
    double_round = flags.get("rounding_mode", "SINGLE_ROUND") == "DOUBLE_ROUND" and flags.get("scale32", True)
    if SHIFT_RANGE in flags:
        smallest, largest = flags[SHIFT_RANGE]
        factors = _Factors(smallest, largest, output_zp, bound, _RESULT_BITS.get(target))
        factors.scale(e, multiplier, shift)
        output_zp = 0
    elif constant_shift is None:
        scale = _scale_i64_by_lanes if is_wide else partial(_scale_by_lanes, double_round=double_round)
        e.expect(multiplier, e.lanes)
        e.expect(shift, e.lanes)
        scale(e, partial(e.push, multiplier), partial(e.push, shift))
    elif is_wide:
        _scale_i64(e, partial(e.push, multiplier), int(constant_shift))
    else:
        folded = output_zp if abs(output_zp) << int(constant_shift) < 1 << 61 else 0
        e.expect(multiplier, len(_halves(e.lanes)))
        push_scaled(f, e.lanes, partial(e.push, multiplier), int(constant_shift), double_round, folded)
        output_zp -= folded
    if output_zp:
        splat_i32(f, output_zp)
        f.op("i32x4.add")
    if flags.get("output_unsigned", False):
        saturate_unsigned(f, target)
    elif not e.is_saturated_later(node.index):
        saturate(f, target)


_RESULT_BITS = {"i8": 8, "i16": 16}


def _zero_points(e: Emission, node: Operands) -> tuple[int, int]:
    """Those of input and output, as the numbers that they stand for."""
    if len(node.arguments) == 3:
        return 0, 0
    found = [int(e.constant(index) or 0) for index in node.arguments[3:]]
    elements = e.element(node.arguments[0]), e.element(node.index)
    flags = [node.attributes.get(name, False) for name in ("input_unsigned", "output_unsigned")]
    first, second = (unsigned(zp, of) if flag else zp for zp, of, flag in zip(found, elements, flags))
    return first, second


def _push_centred(e: Emission, value: int, zero_point: int, is_unsigned: bool) -> int:
    """Push the value less its zero point; the largest magnitude that it can have."""
    f, element = e.f, e.element(value)
    e.push(value)
    if is_unsigned:
        zero_extend(f, element)
    if zero_point:
        (splat_i64 if KINDS[element] == INT64 else splat_i32)(f, zero_point)
        f.op("i64x2.sub" if KINDS[element] == INT64 else "i32x4.sub")
    bound = e.bound(value)
    if bound is None:
        return 1 << 31
    return (2 * bound if is_unsigned else bound) + abs(zero_point)


def push_scaled(
    f: Function, lanes: int, multiplier: Push, shift: int, double_round: bool = False, zero_point: int = 0
) -> None:
    """i32 lanes x -> ((x * multiplier + rounding) >> shift) + zero_point (TOSA apply_scale_32)."""
    halves = _halves(lanes)
    double_round = double_round and shift > 31
    x = f.local("v128")
    for half in halves:
        _push_product(f, half, x, multiplier)
        splat_i64(f, (1 << shift - 1) + (double_round << 30) + (zero_point << shift))
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
    f.release(x)
    # From 32 on the high words hold the result, and one narrow shift does for both halves.
    _join_words(f, halves, high=shift >= 32)
    if shift > 32:
        f.i32(shift - 32)
        f.op("i32x4.shr_s")


def _push_product(f: Function, half: str, x: int, multiplier: Push) -> None:
    """Push the 64-bit products of half of the lanes; the low half takes x from the stack and keeps it."""
    if half == "low":
        f.tee(x)
    else:
        f.get(x)
    multiplier()
    f.op(f"i64x2.extmul_{half}_i32x4_s")


def _halves(lanes: int) -> tuple[str, ...]:
    return ("low", "high") if lanes > 2 else ("low",)


def takes_factors(smallest: int, largest: int) -> bool:
    """True if shifts of this range can be given as factors: `t * factor` must fit 64 bits."""
    return largest <= 2 * smallest and largest - smallest <= 30


@dataclass(frozen=True)
class _Factors:
    """Scaling where the lanes hold factor = 2**(largest - shift) in place of the shift.

    With d = largest - smallest and t = (x * multiplier) >> (smallest - 1), the result is
    (t * factor + 2**d) >> (d + 1). `bound` limits |x|; `bits` is given where the result is saturated to so many.
    """

    smallest: int
    largest: int
    zero_point: int
    bound: int
    bits: int | None

    def scale(self, e: Emission, multiplier: int, factor: int) -> None:
        """x -> the scaled lanes plus the zero point."""
        halves = _halves(e.lanes)
        e.expect(multiplier, len(halves))
        if self.smallest > 32 and self._fits_i32(self.bound << 32 >> self.smallest):
            self._scale_i32(e, multiplier, factor)
        elif self.smallest > 32 and self.bits and self._fits_i32(self._limit):
            self._scale_i32(e, multiplier, factor, self._limit)
        else:
            e.expect(factor, len(halves))
            self._scale_i64(e, multiplier, factor)

    def _scale_i64(self, e: Emission, multiplier: int, factor: int) -> None:
        f, halves = e.f, _halves(e.lanes)
        x = f.local("v128")
        for half in halves:
            _push_product(f, half, x, partial(e.push, multiplier))
            f.i32(self.smallest - 1)
            f.op("i64x2.shr_s")
            e.push(factor)
            f.op(f"i64x2.extend_{half}_i32x4_s")
            f.op("i64x2.mul")
            splat_i64(f, self._addend)
            f.op("i64x2.add")
            f.i32(self._distance + 1)
            f.op("i64x2.shr_s")
        f.release(x)
        _join_words(f, halves, high=False)

    @property
    def _distance(self) -> int:
        return self.largest - self.smallest

    @property
    def _addend(self) -> int:
        """The rounding and the zero point, which goes through the shift unharmed."""
        return (1 << self._distance) + (self.zero_point << self._distance + 1)

    @property
    def _limit(self) -> int:
        """Beyond it in magnitude t gives results that are saturated whatever the factor and the zero point."""
        return 1 << self._distance + (self.bits or 0) + 2

    def _fits_i32(self, t: int) -> bool:
        return ((t + 1) << self._distance) + abs(self._addend) < 1 << 31

    def _scale_i32(self, e: Emission, multiplier: int, factor: int, limit: int | None = None) -> None:
        """With t in 32 bits, clamped to the limit if there is one."""
        f, halves = e.f, _halves(e.lanes)
        x = f.local("v128")
        for half in halves:
            _push_product(f, half, x, partial(e.push, multiplier))
        f.release(x)
        _join_words(f, halves, high=True)
        if self.smallest > 33:
            f.i32(self.smallest - 33)
            f.op("i32x4.shr_s")
        if limit is not None:
            for operator, bound in (("i32x4.max_s", -limit), ("i32x4.min_s", limit)):
                splat_i32(f, bound)
                f.op(operator)
        e.push(factor)
        f.op("i32x4.mul")
        splat_i32(f, self._addend)
        f.op("i32x4.add")
        f.i32(self._distance + 1)
        f.op("i32x4.shr_s")


def _join_words(f: Function, halves: tuple[str, ...], high: bool) -> None:
    """One or two vectors of i64 lanes on the stack -> their high or low words as i32 lanes."""
    if len(halves) == 1:
        splat_i32(f, 0)
    first = 4 if high else 0
    f.shuffle([base + first + i for base in (0, 8, 16, 24) for i in range(4)])


def _scale_by_lanes(e: Emission, multiplier: Push, shift: Push, double_round: bool) -> None:
    """Lane by lane in i64, for shifts that differ."""
    f = e.f
    x, result, amount = f.local("v128"), f.local("v128"), f.local("i64")
    f.set(x)
    for lane in range(e.lanes):
        if lane:
            f.get(result)
        else:
            f.get(x)
        f.get(x)
        f.lane("i32x4.extract_lane", lane)
        f.op("i64.extend_i32_s")
        _scale_lane(f, lane, multiplier, shift, amount)
        if double_round:
            _double_round_lane(f, x, amount, lane)
        f.get(amount)
        f.op("i64.shr_s")
        f.op("i32.wrap_i64")
        f.lane("i32x4.replace_lane", lane)
        f.set(result)
    f.get(result)
    f.release(x, result, amount)


def _scale_lane(f: Function, lane: int, multiplier: Push, shift: Push, amount: int) -> None:
    """An i64 x on the stack -> x * multiplier + half of what the shift drops; the shift goes to local `amount`."""
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


def _scale_i64(e: Emission, multiplier: Push, shift: int) -> None:
    """Two i64 lanes x -> (x * multiplier + rounding) >> shift as i32 (48-bit values, 16-bit multipliers)."""
    f = e.f
    multiplier()
    f.op("i64x2.extend_low_i32x4_s")
    f.op("i64x2.mul")
    splat_i64(f, 1 << shift - 1)
    f.op("i64x2.add")
    f.i32(shift)
    f.op("i64x2.shr_s")
    low_words(f)


def _scale_i64_by_lanes(e: Emission, multiplier: Push, shift: Push) -> None:
    f = e.f
    x, amount = f.local("v128"), f.local("i64")
    f.tee(x)
    for lane in range(e.lanes):
        f.get(x)
        f.lane("i64x2.extract_lane", lane)
        _scale_lane(f, lane, multiplier, shift, amount)
        f.get(amount)
        f.op("i64.shr_s")
        f.lane("i64x2.replace_lane", lane)
    f.release(x, amount)
    low_words(f)
