"""Architectures of the papers, one a file: plain functions that give functional Keras models with logits.

Only keras is imported here, so every model builds on any Keras backend. To add one, write a function that names its
layers (defenses are attached to layers by name) and ends in a linear layer called `logits`.

EfficientNet-Lite0 is in `tfdefense/zoo/lite0.py`: the zoo needs it where the library alone is installed.
"""
