"""Pipelines: the text, the options, native and own passes in one order, and whose error arrives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from torch_mlir import ir

import tosaic_passes
from tosaic_passes import PASSES, TosaicError, pass_class, pipeline
from tosaic_passes.pipeline import NativePass, NativePassError, parse_pipeline, run_pipeline, spec
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable


@dataclass(frozen=True)
class MarkOpsPass:
    """Counts the ops of the module's functions into an attribute of the module."""

    name: ClassVar[str] = "mark-ops"
    label: str = "ops"
    only: tuple[str, ...] = ()
    limit: int | None = None
    loud: bool = False

    def run(self, program: Program) -> None:
        if self.label == "refuse":
            raise TosaicError("refused by mark-ops")
        block = program.module.body.operations[0].regions[0].blocks[0]
        program.module.operation.attributes[f"t.{self.label}"] = ir.StringAttr.get(str(len(block.operations)))


@dataclass(frozen=True)
class NeedsValuePass:
    name: ClassVar[str] = "needs-value"
    value: int


@pytest.fixture(autouse=True)
def own_passes(monkeypatch):
    classes = {"mark-ops": MarkOpsPass, "needs-value": NeedsValuePass}
    monkeypatch.setattr(pipeline, "PASSES", tuple(classes))
    monkeypatch.setattr(pipeline, "pass_class", classes.get)
    monkeypatch.setattr(pipeline, "PRESETS", {"both": ("mark-ops{label=a}", "cse")})


@pytest.fixture
def program():
    with ir.Context() as context:
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(
            """func.func @main(%a: tensor<2xf32>) -> tensor<2xf32> {
                 %0 = tosa.abs %a : (tensor<2xf32>) -> tensor<2xf32>
                 %1 = tosa.abs %a : (tensor<2xf32>) -> tensor<2xf32>
                 %2 = tosa.add %0, %1 : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
                 return %2 : tensor<2xf32>
               }"""
        )
    return Program(module, WeightTable())


@pytest.mark.parametrize(
    "text",
    [
        "mark-ops",
        "mark-ops{label=x limit=3 loud=true}",
        "mark-ops{only=a,b}",
        "canonicalize{max-iterations=2},func.func(cse)",
    ],
)
def test_spec_parses_to_the_same_elements(text):
    elements = parse_pipeline(text)
    assert parse_pipeline(pipeline.pipeline_text(elements)) == elements


def test_options_are_typed():
    (element,) = parse_pipeline("mark-ops{only=a,b limit=3 loud=true}")
    assert element == MarkOpsPass(only=("a", "b"), limit=3, loud=True)


def test_anchor_is_optional():
    assert parse_pipeline("builtin.module(cse,mark-ops)") == parse_pipeline(" cse, mark-ops ")


def test_preset_expands_to_its_elements():
    assert parse_pipeline("both") == [MarkOpsPass(label="a"), NativePass("cse")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mark-ops{size=3}",
            "pass 'mark-ops' has no option 'size'; its options are: label, only, limit, loud",
        ),
        ("mark-ops{limit=x}", "option 'limit' of pass 'mark-ops' is 'x', which is not of type int"),
        ("mark-ops{loud=yes}", "option 'loud' of pass 'mark-ops' is 'yes', which is not of type bool"),
        (
            "mark-ops{loud}",
            "'loud' in 'mark-ops{loud}' is not an option; write NAME=VALUE, spaces between them",
        ),
        ("needs-value", "pass 'needs-value' needs the option value; write needs-value{value=...}"),
        ("cse,,cse", "the pass pipeline 'cse,,cse' has an empty element"),
        ("func.func(cse", "the pass pipeline 'func.func(cse' has an unbalanced bracket"),
    ],
)
def test_bad_text_is_refused(text, message):
    with pytest.raises(TosaicError) as error:
        parse_pipeline(text)
    assert str(error.value) == message


def test_unknown_pass_is_refused_when_it_is_added(program):
    with pytest.raises(TosaicError, match="'no-such-pass' does not refer to a registered pass"):
        run_pipeline(program, parse_pipeline("no-such-pass"))


def test_own_pass_inside_a_native_nest_is_refused(program):
    with pytest.raises(TosaicError, match="pass 'mark-ops' works on the whole module"):
        run_pipeline(program, parse_pipeline("func.func(mark-ops)"))


def test_native_and_own_passes_run_in_the_written_order(program):
    run_pipeline(program, parse_pipeline("mark-ops{label=before},func.func(cse),mark-ops{label=after}"))
    attributes = program.module.operation.attributes
    assert [attributes[f"t.{label}"].value for label in ("before", "after")] == ["4", "3"]


def test_error_of_own_pass_arrives_unchanged(program):
    with pytest.raises(TosaicError, match=r"^refused by mark-ops$") as error:
        run_pipeline(program, parse_pipeline("cse,mark-ops{label=refuse},cse"))
    assert type(error.value) is TosaicError


def test_error_of_native_pass_keeps_its_diagnostics(program):
    with pytest.raises(NativePassError) as error:
        run_pipeline(
            program,
            parse_pipeline(
                "tosa-attach-target{profiles=pro_int},tosa-validate{strict-op-spec-alignment=true}"
            ),
        )
    diagnostic = error.value.diagnostics[0]
    assert ("tosa.abs" in diagnostic.message, diagnostic.line) == (True, 2)


def test_every_registered_pass_has_the_name_it_is_registered_by():
    assert {name: pass_class(name).name for name in PASSES} == {name: name for name in PASSES}


def test_every_pass_has_a_lit_test():
    suite = Path(__file__).parents[2] / "lit_tests"
    folders = {name: suite / "passes" / name for name in PASSES} | {
        "convert-onnx-to-tosa": suite / "onnx_to_tosa"
    }
    assert [name for name, folder in folders.items() if not any(folder.rglob("*.*"))] == []


def test_every_preset_parses():
    for elements in tosaic_passes.PRESETS.values():
        assert [spec(e) for text in elements for e in parse_pipeline(text)]
