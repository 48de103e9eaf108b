"""Why a sample is accepted or rejected, in words. Importing this loads nothing else."""

# Of a model.
REASONS = ("accepted", "suspicious", "invalid input", "broken model")
# Of a file that a model was to look at, too.
ALL_REASONS = (*REASONS, "unreadable")
ACCEPTED, SUSPICIOUS, INVALID, BROKEN, UNREADABLE = range(len(ALL_REASONS))
