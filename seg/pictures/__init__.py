"""What draws: overlays, panels, charts of classes, confusion and reliability."""
