"""The commands: `asr-data`, `asr-train`, `asr-decode` and `asr-score`, all listed by `python -m asr`."""
