"""Verdicts and sentences made from numbers."""
