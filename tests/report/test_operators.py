"""docs/operators.md is what the registry says."""

from pathlib import Path

from tosaic.report.operators import document


def test_the_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "operators.md"
    assert page.read_text() == document(), "run: python -m tosaic.report.operators > docs/operators.md"
