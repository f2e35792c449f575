"""Decoders: an axis of the benchmark.

Left out on purpose: ``exclude_history`` (the released code has it off, and it would have to hold for every
method of the suite alike), ``bigrec.original`` (BIGRec's own training recipe; here BIGRec is the MSL paper's,
trained on answers only), and grounding weighted by the scores of a collaborative model (the list would then
not be the language model's; popularity weighting is there).
"""
