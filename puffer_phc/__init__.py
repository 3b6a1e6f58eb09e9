"""puffer-phc: a physics humanoid that learns to imitate human motion capture."""

__version__ = "0.1.0"
