"""One package a paper: settings, what is measured, tables, figures, and the paper's own numbers."""

# Whose lines the README shows, in this order.
LINES = ("dustbin", "rce", "dnr", "detector", "safetynet")
