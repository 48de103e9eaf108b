"""What is trained: settings of networks by name, a family a file. Docstrings tell command, cost and expected numbers."""
