"""From bytes to log-mel clips: what the network hears."""
