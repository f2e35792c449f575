"""Which language models give right numbers here, and by which layouts: found out, never assumed."""
