"""Running cells: the order of steps, executors, schedule, search, meter."""
