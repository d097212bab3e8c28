"""Error rates as counts that add up: alignments joined by utterance id, intervals, and reports to read."""
