"""Files to batches, in the order of the road: files, masks, samples, views, sampling, batches."""
