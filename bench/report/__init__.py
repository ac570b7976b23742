"""What a finished run is turned into: text, plots, one HTML page, and the comparison of two runs."""
