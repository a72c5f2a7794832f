"""The frozen backbone: sizes, tokens, hooks, published weights."""
