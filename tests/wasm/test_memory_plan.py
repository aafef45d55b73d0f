"""Buffers that live at the same time never overlap, and the arena is close to the largest live set."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Access, Expression, Kernel, KernelRequest, Operand, Sample
from tosaic.wasm.layout import Buffer, Call, Layout, Placed
from tosaic.wasm.memory_plan import Step, pages, plan_memory, touched
from tosaic.wasm.views import Window

CHUNK = 1 << 20
IDENTITY = Expression((("input", (0,), ()),), ("f32",))


def step(source: Buffer, target: Buffer, scratch_bytes: int = 0, constants: dict | None = None) -> Step:
    """A kernel that copies one buffer into another."""
    places = tuple(Placed(buffer, Window.whole("i8", (buffer.bytes,))) for buffer in (source, target))
    request = KernelRequest(
        "elementwise",
        (Operand(places[0].window.view, source.array),),
        (places[1].window.view,),
        epilogue=IDENTITY,
    )
    kernel = Kernel(Function("k", PriceList.load()), (), constants or {}, scratch_bytes)
    return Step(Call(request, places), kernel)


def layout_of(inputs: list[Buffer], outputs: list[Buffer]) -> Layout:
    placed = [[Placed(b, Window.whole("i8", (b.bytes,))) for b in buffers] for buffers in (inputs, outputs)]
    return Layout([], *placed)


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=30))
def test_chain_comes_close_to_its_two_largest_neighbours(sizes):
    buffers = [Buffer(16 * size) for size in sizes]
    steps = [step(a, b) for a, b in itertools.pairwise(buffers)]
    plan = plan_memory(layout_of(buffers[:1], buffers[-1:]), steps, control_bytes=0, chunk_bytes=CHUNK)
    assert plan.largest_live_bytes == max(a.bytes + b.bytes for a, b in itertools.pairwise(buffers))
    assert plan.arena_bytes <= 1.15 * plan.largest_live_bytes


@given(st.integers(0, 1 << 30))
def test_buffers_in_use_never_overlap(seed):
    rng = np.random.default_rng(seed)
    buffers = [Buffer(int(rng.integers(1, 300))) for _ in range(12)]
    pairs = [rng.choice(12, 2, replace=False) for _ in range(20)]
    steps = [step(buffers[a], buffers[b], int(rng.integers(0, 2)) * 64) for a, b in pairs]
    plan = plan_memory(layout_of(buffers[:2], buffers[-2:]), steps, control_bytes=100, chunk_bytes=CHUNK)
    used: dict[Buffer, list[int]] = {buffer: [-1] for buffer in buffers[:2]}
    for number, (a, b) in enumerate(pairs):
        used.setdefault(buffers[a], []).append(number)
        used.setdefault(buffers[b], []).append(number)
    for buffer in buffers[-2:]:
        used.setdefault(buffer, []).append(len(steps))
    spans = [(plan.address_of[b], b.bytes, min(at), max(at)) for b, at in used.items()]
    spans += [(s.addresses[2], 64, n, n) for n, s in enumerate(steps) if s.kernel.scratch_bytes]
    for i, (start, size, first, last) in enumerate(spans):
        assert start >= 100
        for other_start, other_size, other_first, other_last in spans[:i]:
            apart = start + size <= other_start or other_start + other_size <= start
            assert apart or last < other_first or other_last < first


def test_equal_weights_are_stored_once_behind_the_arena():
    first, second = (
        Buffer(64, array=np.arange(64, dtype=np.int8)),
        Buffer(64, array=np.arange(64, dtype=np.int8)),
    )
    out = Buffer(64)
    steps = [step(first, out), step(second, out)]
    plan = plan_memory(layout_of([], [out]), steps, control_bytes=16, chunk_bytes=CHUNK)
    assert steps[0].addresses[0] == steps[1].addresses[0] == PAGE_BYTES
    assert [(s.address, bytes(s.data)) for s in plan.data] == [(PAGE_BYTES, bytes(range(64)))]


def test_packed_constant_takes_the_place_of_the_tensor():
    weights, out = Buffer(64, array=np.arange(64, dtype=np.int8)), Buffer(64)
    steps = [step(weights, out, constants={0: np.zeros(8, np.float32)})]
    plan = plan_memory(layout_of([], [out]), steps, control_bytes=0, chunk_bytes=CHUNK)
    assert [bytes(s.data) for s in plan.data] == [bytes(32)]


@pytest.mark.parametrize(
    ("address", "runs", "mask"),
    [
        (0, ((0, 1),), 0b1),
        (0, ((0, PAGE_BYTES + 1),), 0b11),
        (PAGE_BYTES - 1, ((0, 2),), 0b11),
        (PAGE_BYTES, ((-4, 4),), 0b1),
        (0, ((0, 4), (3 * PAGE_BYTES, 4)), 0b1001),
    ],
)
def test_page_masks_cover_the_runs(address, runs, mask):
    assert pages(address, runs) == mask


TABLE = np.zeros(5 * PAGE_BYTES + 100, np.int8)
NOTES = Placed(Buffer(24), Window.whole("i32", (6,)))


def sampler(turn: range) -> Step:
    """Reads some pages of TABLE."""
    reads = step(Buffer(TABLE.nbytes, TABLE), Buffer(16), constants={0: TABLE})
    kernel = replace(reads.kernel, sample=Sample(0, len(turn)))
    return replace(reads, kernel=kernel, notes=NOTES, turn=turn)


def reader(pages_read: int) -> Step:
    """Reads the first pages of TABLE."""
    access = Access(0, ((0, min(TABLE.nbytes, pages_read * PAGE_BYTES)),))
    reads = step(Buffer(TABLE.nbytes, TABLE), Buffer(16))
    return replace(reads, kernel=replace(reads.kernel, accesses=(access,)))


def test_a_sampled_table_shares_no_page():
    other = Buffer(64, array=np.arange(64, dtype=np.int8))
    steps = [step(other, Buffer(64)), sampler(range(2))]
    plan_memory(layout_of([], []), steps, control_bytes=16, chunk_bytes=CHUNK)
    start = steps[1].addresses[0]
    assert start % PAGE_BYTES == 0
    assert not start <= steps[0].addresses[0] < start + 6 * PAGE_BYTES
    assert steps[0].addresses[0] // PAGE_BYTES != start // PAGE_BYTES


@pytest.mark.parametrize(("others", "exact"), [([], True), ([reader(6)], True), ([reader(3)], False)])
def test_pages_depend_on_data_where_a_sampled_table_is_also_read_in_part(others, exact):
    steps = [sampler(range(2)), *others]
    plan_memory(layout_of([], []), steps, control_bytes=16, chunk_bytes=CHUNK)
    assert steps[0].exact is exact
    reads, _ = touched(steps[0])
    assert reads.bit_count() == (2 if exact else 6)


def test_what_a_loop_reads_from_before_it_is_kept_until_its_last_trip():
    before, first, second, third = (Buffer(64) for _ in range(4))
    steps = [step(before, first), step(first, second), step(second, third)]
    once = plan_memory(layout_of([before], [third]), steps, control_bytes=0, chunk_bytes=CHUNK)
    again = plan_memory(
        layout_of([before], [third]), steps, control_bytes=0, chunk_bytes=CHUNK, loops=[range(1, 3)]
    )
    assert (once.largest_live_bytes, again.largest_live_bytes) == (128, 192)


@pytest.mark.parametrize(
    ("turns", "together"),
    [((range(2), range(2, 4)), 4), ((range(4), range(4, 8)), 6), ((range(4, 8), range(8, 9)), 5)],
)
def test_steps_sample_pages_in_turns_around_the_table(turns, together):
    steps = [sampler(turn) for turn in turns]
    plan_memory(layout_of([], []), steps, control_bytes=16, chunk_bytes=CHUNK)
    reads = [touched(step)[0] for step in steps]
    assert [mask.bit_count() for mask in reads] == [min(len(turn), 6) for turn in turns]
    assert (reads[0] | reads[1]).bit_count() == together
    assert all(step.exact for step in steps)
