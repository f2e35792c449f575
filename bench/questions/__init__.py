"""What people ask after a run: lists, wins of one cell over another, recommendations, reasons, exports."""
