"""One confusion matrix over the whole split, and the scores read from it."""
