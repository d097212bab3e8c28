"""Transcripts into token ids and back."""
