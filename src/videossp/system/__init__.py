"""Process, files and progress; no torch."""
