"""Tables and pages that show what a model costs."""

from tosaic.report.tables import (
    limits_table,
    messages_table,
    render,
    segments_table,
    tensors_table,
    uploads_table,
)

__all__ = ["limits_table", "messages_table", "render", "segments_table", "tensors_table", "uploads_table"]
