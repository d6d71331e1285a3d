"""One module for each row of the results: ``measure(row, sizes, ways)`` adds its figures."""
