"""Two finished runs side by side: settings, metrics, costs and provenance on one page."""
