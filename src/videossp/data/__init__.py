"""Videos on disk to clips."""
