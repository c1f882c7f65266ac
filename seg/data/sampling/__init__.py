"""What an epoch draws: how often each image, where its crops lie, what the training sees of it."""
