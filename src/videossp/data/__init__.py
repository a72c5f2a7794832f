"""From annotated videos on disk to clips."""
