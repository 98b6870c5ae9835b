"""Runs trials of NeuroSeal's arena with transformers, PEFT and TRL."""
