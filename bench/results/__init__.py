"""Rows and artefacts on disk, and what identifies them."""
