"""Rows to tables; loads no torch."""
