"""The VBot quadruped and its navigation task."""
