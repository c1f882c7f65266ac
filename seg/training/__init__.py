"""Fitting a model: the Keras model with its loss and metric, callbacks, run folders, pictures of predictions."""
