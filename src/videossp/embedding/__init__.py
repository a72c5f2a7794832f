"""Embeddings: one feature vector per video, their file, and what is computed from them."""
