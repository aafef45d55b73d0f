"""The benchmark itself: what it keeps, what it tabulates, other price lists, and its networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import figures
import networks
import numpy as np
import onnx
import pytest
import run
from figures import NO_LIMIT, CutFigures, Failed, Figures, Kept
from onnxruntime_web import WebFigures
from sources import Source, given_models, own_networks
from tables import Cut, Row, cost_table, cut_table

from tosaic.prices import OVERRIDE, PriceList

OLDER = Path(__file__).parents[2] / "third_party" / "ic" / "older_prices.json"
FIGURES = Figures(1000, 2000, 10, 2010, 2010, True, 1, 1 << 20, 0, 2 << 20, 1 << 20, 0.5, 100)
WEB = WebFigures(8000, 9000, 10_000, 16 << 20)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return next(own_networks(tmp_path_factory.mktemp("networks"), ["keyword_spotting"]))


def test_what_is_kept_is_not_measured_again(tmp_path: Path, source: Source) -> None:
    kept = Kept(tmp_path / "kept")
    runs: list[dict] = []

    def measure() -> dict:
        runs.append({"run": len(runs)})
        return runs[-1]

    first = kept.measured("kind", source, ["a"], measure)
    assert kept.measured("kind", source, ["a"], measure) == first
    kept.measured("kind", source, ["another price list"], measure)
    kept.measured("kind", replace(source, inputs={}), ["a"], measure)
    assert len(runs) == 3


def test_every_figure_of_a_model_is_measured(source: Source) -> None:
    found = figures.measure(source)
    assert found.exact
    assert found.predicted == found.metered == found.instructions + found.page_touch
    assert 1.5 < found.instructions / found.macs < 2.5
    assert 0 < found.live_bytes <= found.arena_bytes < found.module_bytes


def test_an_older_price_list_changes_the_figures_and_not_the_code(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "KEPT", tmp_path)
    monkeypatch.setenv(OVERRIDE, str(run.written_prices(OLDER)))
    prices = PriceList.load()
    assert (prices.operators["f32.add"], prices.operators["f32x4.add"], prices.page_access) == (20, 1, 0)
    assert prices.system_call("msg_reply") == 500
    found = figures.measure(source)
    assert found.exact
    assert 1.0 < found.instructions / found.macs < 1.5


def test_a_folder_of_models_brings_its_inputs(tmp_path: Path, source: Source) -> None:
    onnx.save(onnx.load(source.path), tmp_path / "model.onnx")
    np.savez(tmp_path / "model.inputs.npz", **source.inputs)
    (found,) = given_models(tmp_path)
    assert (found.name, found.digest) == ("model", source.digest)
    assert list(given_models(tmp_path, ["another"])) == []


def test_the_table_compares_and_leaves_out_what_does_not_apply() -> None:
    rows = [Row("a", FIGURES, WEB), Row("b", replace(FIGURES, macs=0, predicted=4020, exact=False))]
    lines = cost_table(rows).splitlines()
    assert lines[2] == (
        "| a | 0.0 | 0.0 | 2.00 | 0.0 | exact | 1 | 1.00 |  | 2.00 | 2.00 | 0.5 | 100 | 0.0 | 8.00 | 16 | 4.00 |"
    )
    assert lines[3].endswith("|  | 0.0 | <= (+100.0%) | 1 | 1.00 |  | 2.00 | 2.00 | 0.5 | 100 |  |  |  |  |")
    assert lines[5:] == [
        "Geometric mean of the ratio over 1 models: 4.00; lowest 4.00.",
        "Every message of 1 models took exactly what was predicted."
        " The other 1 have bounds, which no message exceeded.",
    ]


def test_the_overhead_of_a_cut_is_over_all_messages() -> None:
    uncut = CutFigures(
        segments=1, segment_instructions=20_000_000, messages=2, predicted=20_100_000, metered=None
    )
    cut = Cut("a", 9_000_000, CutFigures(4, 22_010_000, 6, 22_110_000, None), uncut)
    assert cut_table([cut]).splitlines()[2] == "| a | 9,000,000 | 4 | 3 | 6 | 22.1 |  | 20.1 | +10.00% |"


def test_a_batch_has_its_inputs_behind_one_another(source: Source) -> None:
    batched = source.batched(3)
    assert batched.name == f"{source.name} -b 3"
    assert [a.shape for a in batched.inputs.values()] == [
        (3 * a.shape[0], *a.shape[1:]) for a in source.inputs.values()
    ]


def test_a_refusal_says_which_nodes(tmp_path: Path) -> None:
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    node = onnx.helper.make_node("Unknown", ["x"], ["y"], name="n", domain="strange")
    graph = onnx.helper.make_graph([node], "g", info[:1], info[1:])
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("strange", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    source = Source(tmp_path / "model.onnx", {"x": np.zeros(2, np.float32)})
    with pytest.raises(Failed, match=r"^1 node .*'n'"):
        figures.measured(Kept(tmp_path / "kept"), source, PriceList.load())


def test_a_cut_model_costs_what_was_predicted(source: Source) -> None:
    whole = figures.measure_cut(source, NO_LIMIT)
    cut = figures.measure_cut(source, whole.predicted // 2)
    assert (whole.messages, whole.metered) == (1, None)
    assert cut.metered == cut.predicted > whole.predicted
    assert cut.messages >= 3


@pytest.mark.parametrize("name", ["gru_keywords", "lstm_forecast", "bert_mini", "vit_tiny"])
def test_the_networks_are_valid(name: str) -> None:
    onnx.checker.check_model(networks.NETWORKS[name](), full_check=True)
