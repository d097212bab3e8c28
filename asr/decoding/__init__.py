"""From emissions to text: search that sees only log-probabilities, and `transcribe`, which runs a model over recordings."""
