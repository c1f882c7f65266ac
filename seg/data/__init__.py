"""Images and masks: reading them, pairing them, augmenting them, batching them, and scenes drawn from nothing."""
