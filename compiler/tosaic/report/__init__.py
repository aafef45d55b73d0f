"""Tables and pages that show what a model costs."""

from tosaic.report.tables import messages_table, render, segments_table, tensors_table

__all__ = ["messages_table", "render", "segments_table", "tensors_table"]
