"""Tables and pages say the figures they are given."""

from __future__ import annotations

from torch_mlir import ir

from tosaic.model import ExecutedMessage
from tosaic.report import limits_table, messages_table, segments_table, tensors_table
from tosaic.report.html import page
from tosaic.report.tables import named_tensors_table, summary

MANIFEST = {
    "inputs": [{"name": "x<y", "dtype": "float32", "shape": [1, 8]}],
    "outputs": [{"name": "scale", "dtype": "float32", "shape": []}],
    "segments": [
        {"name": "segment_0", "instructions": 1200, "message_instructions": 241200, "exact": True,
         "multiply_adds": 50, "live_bytes": 16},
        {"name": "segment_1", "instructions": 300, "message_instructions": 240300, "exact": False,
         "multiply_adds": 0, "live_bytes": 4},
    ],
    "messages": [
        {"name": "infer", "predicted": 241200, "exact": True},
        {"name": "step", "predicted": 240300, "exact": False},
    ],
    "query": None,
    "total_predicted": 481500,
    "cycles": 11_800_000,
    "seconds": 2,
    "multiply_adds": 50,
    "memory_bytes": 3 * 2**20,
    "files": {"canister.wasm": {"bytes": 2048}},
    "uploads": [],
    "limits": [{"what": "functions", "used": 12500, "limit": 50000}],
}  # fmt: skip


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_names_are_shown_and_not_obeyed():
    tensors = [
        {"name": name, "dtype": "bool", "shape": [], "bytes": 1} for name in ("a[red]", "b\x1b[31m\nc", "é")
    ]
    assert [row[0] for row in lines(named_tensors_table(tensors))[2:]] == ["a[red]", r"b\x1b[31m\nc", "é"]


def test_messages_and_their_sum():
    messages = [
        ExecutedMessage("infer", 241_200, 241_200, 10**6, 240_000),
        ExecutedMessage("step", 240_300, 240_100, 10**6, 160_000, exact=False),
    ]
    assert lines(messages_table(messages))[2:] == [
        ["infer", "241,200", "241,200", "240,000", "1,000,000"],
        ["step", "<=", "240,300", "240,100", "160,000", "1,000,000"],
        ["total", "<=", "481,500", "481,300", "400,000"],
    ]


def test_one_message_has_no_sum():
    assert "total" not in messages_table([ExecutedMessage("infer", 5, 5, 10, 0)])


def test_page_touches_that_nobody_knows_are_left_out():
    messages = [ExecutedMessage("infer", 5, 5, 10, None), ExecutedMessage("step", 6, 6, 10, None)]
    assert lines(messages_table(messages))[2:] == [
        ["infer", "5", "5", "10"],
        ["step", "6", "6", "10"],
        ["total", "11", "11"],
    ]


def test_limits():
    assert lines(limits_table(MANIFEST))[2:] == [["functions", "12,500", "50,000", "25.0%"]]


def test_segments():
    assert lines(segments_table(MANIFEST))[2:] == [
        ["segment_0", "1,200", "241,200", "50", "16"],
        ["segment_1", "<=", "300", "<=", "240,300", "0", "4"],
    ]


def test_scalars_have_a_shape_too():
    assert lines(tensors_table(MANIFEST))[-1] == ["output", "scale", "float32", "scalar"]


def test_summary_is_one_line():
    assert summary(MANIFEST) == (
        "<= 481,500 instructions in 2 messages (no query), <= 11,800,000 cycles, about 2 s, 50 multiply-adds, "
        "3.0 MiB of memory, canister.wasm 2.0 KiB"
    )


def test_summary_says_that_a_query_will_do():
    manifest = MANIFEST | {"query": {"name": "infer_query", "predicted": 241_000, "exact": True}}
    assert "(fits a query)" in summary(manifest)


def test_summary_tells_what_is_uploaded():
    assert summary(MANIFEST | {"uploads": [{}] * 3}).endswith("KiB and 3 chunks of weights to upload")


def test_page_shows_every_op_with_its_share_and_escapes_names():
    with ir.Context():
        module = ir.Module.parse("""func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
          %0 = tosa.exp %x {ic.instructions = 30 : i64} : (tensor<4xf32>) -> tensor<4xf32> loc("/a&b/Exp")
          %1 = tosa.abs %0 {ic.instructions = 10 : i64} : (tensor<4xf32>) -> tensor<4xf32>
          return %1 : tensor<4xf32>
        }""")
    text = page("model", MANIFEST, module)
    assert "x&lt;y" in text
    assert "<td>/a&amp;b/Exp</td><td>tosa.exp</td>" in text
    assert "75.0%" in text
    assert "25.0%" in text
