"""The selective scan: its definition and its fast kernels."""
