"""The operating system: process settings, memory, files, locks and progress on stderr. No torch."""
