"""Images by name, and samples of no class to train a dustbin with.

Nothing here touches the network unless `download=True` is given.
"""

from tfdefense.data import scenes
from tfdefense.data.images import Images
from tfdefense.data.interpolation import Interpolated, interpolate
from tfdefense.data.letters import draw_letters
from tfdefense.data.loading import available, describe, load, names
from tfdefense.data.mixing import mix
from tfdefense.data.textures import draw_textures

__all__ = [
    "Images",
    "Interpolated",
    "available",
    "describe",
    "draw_letters",
    "draw_textures",
    "interpolate",
    "load",
    "mix",
    "names",
    "scenes",
]
