"""The command line: look into a model, attack it, judge it, calibrate it, export it. One command a file."""

# In the order of the help.
from tfdefense.cli import info, attack, evaluate, compare, calibrate, export, zoo, check_scene  # noqa: F401, I001
from tfdefense.cli._app import app, main

__all__ = ["app", "main"]
