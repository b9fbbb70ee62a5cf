"""From what a person typed to labels of the taxonomy."""
