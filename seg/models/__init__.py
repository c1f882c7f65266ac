"""Networks from images (N, H, W, bands) to logits (N, H, W, C)."""
