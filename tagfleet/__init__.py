"""tagfleet: distributed batch tagging for music catalogues."""

__version__ = "0.1.0"
