"""Side-by-side measurements of the hot paths."""
