"""Plays policies for people to look at: episodes recorded step by step, as video, arrays and path plots."""
