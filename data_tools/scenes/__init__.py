"""The generated satellite-like scenes."""
