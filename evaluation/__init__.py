"""The protocols of the papers, one a file:  `python -m evaluation PROTOCOL --dataset SET [--quick]`.

To add one, write a file here with a docstring and a `run(context)`; its keyword-only arguments with a typer annotation
become options. `DATASETS` names the sets it knows, its own first choice first. What it puts into the context is written
as JSON, and RESULTS.md is rendered from those files alone. `OUTPUT` names another folder for a protocol that gives files
and no results. Heavy imports belong inside `run`: help must come at once.
"""
