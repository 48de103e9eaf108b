"""What else a recipe may ask for than classes of a set: pairs of picture and depth, a detector branch, samples of no class."""
