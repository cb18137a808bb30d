"""The report page, its provenance, and what is published."""
