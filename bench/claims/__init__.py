"""Published numbers as data, and verdicts against ours."""
