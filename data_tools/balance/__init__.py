"""The report of mask_frequencies: tables, JSON, CSV, Markdown, HTML."""
