"""Files that datasets are read from and written to, one format a file."""
