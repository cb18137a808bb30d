"""A module a chart, one style."""
