"""One package a paper: settings, what is measured, tables, figures, and the paper's own numbers."""

# Whose lines docs/results/defenses.md shows, in this order.
LINES = ("dustbin", "rce", "dnr", "detector", "safetynet")
