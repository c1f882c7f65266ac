"""Draws to batches: loading by threads, decoded pixels kept, the tf.data streams."""
