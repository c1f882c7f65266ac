"""Using a trained model: images of any size to logits, a split to a confusion matrix, a matrix to a report."""
