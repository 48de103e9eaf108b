"""What a model says of a batch, whatever kind of model it is: a defended one, a plain one, a loaded SavedModel."""
