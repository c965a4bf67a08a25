"""What teams load FullStory with today, on the same bundles: `python -m benchmarks.peers`, by hand."""
