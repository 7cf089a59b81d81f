"""A report as HTML and SVG."""
