"""FullStory's behavioural events in your own DuckDB, exactly once, with dbt analytics on top."""

__version__ = "0.1.0"
