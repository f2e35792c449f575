"""Files on disk: written whole or not at all, and checked against what was written before they are used."""
