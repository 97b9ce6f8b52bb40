"""Data quality: rules, what is checked without any, the quarantine, and the history of results."""
