"""What all commands share of a run: its folder, what it computes on, what a checkpoint says of itself."""
