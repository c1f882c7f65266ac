"""What happens to a gradient: learning rates over the updates, clipping, the average of the weights."""
