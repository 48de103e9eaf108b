"""The commands from a classifier to a service that is watched: attach, predict, monitor."""
