"""The command line: look into a model, defend it, attack it, judge it, use it, watch it. One command a file."""

# In the order of the help.
from tfdefense.cli import info  # noqa: F401, I001
from tfdefense.cli.service import attach  # noqa: F401
from tfdefense.cli import attack, evaluate, compare, calibrate  # noqa: F401
from tfdefense.cli.service import predict, monitor  # noqa: F401
from tfdefense.cli import export, zoo, check_scene  # noqa: F401
from tfdefense.cli._app import app, main

__all__ = ["app", "main"]
