"""Measurements: `python -m evaluation PROTOCOL --dataset SET [--quick]`.

A paper is a package in `papers`, a benchmark a file or package in `benchmarks`, over the small `runner`. A module with a
docstring and a `run(context)` is a protocol; its keyword-only arguments with a typer annotation become options, and `DATASETS`
names the sets it knows, its own first choice first. What it puts into the context is written as JSON, from which all tables
are made. `OUTPUT` names another folder for a protocol that gives files and no results. Heavy imports belong inside `run`:
help must come at once.
"""
