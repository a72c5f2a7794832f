"""Long recordings and live streams: windows over them, and the segments of their classes."""
