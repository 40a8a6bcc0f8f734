"""damocles-worker: seals Filecoin sectors for a damocles-manager."""

__version__ = "0.1.0"
