"""Random changes to batches of images."""
