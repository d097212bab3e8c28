"""Recordings and transcripts: manifests, audio files, and the check that lists all of their problems."""
