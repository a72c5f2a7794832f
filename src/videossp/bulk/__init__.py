"""Long lists of videos in shards: one file of rows for each, by one process or many."""
