"""The report: one HTML page that needs no network and no file beside it, verdict first."""

from hidden_rule.report.page.build import build_report, render_report, tables_of, write_report

__all__ = ["build_report", "render_report", "tables_of", "write_report"]
