"""Acoustic models: recurrent layers, encoder, CTC, the whole model, and the folder that stores one."""
