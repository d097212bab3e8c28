"""End-to-end speech recognition: features, bidirectional LSTMs, CTC, and an error report one can trust."""

__version__ = "0.1.0"
