"""How attacks look for a sample, one a file: they differ in that, or in a default, and share objectives, norms and starts."""
