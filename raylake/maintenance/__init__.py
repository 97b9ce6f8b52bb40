"""Upkeep of tables: what each one needs, found from its log alone, and what doing it would cost."""
