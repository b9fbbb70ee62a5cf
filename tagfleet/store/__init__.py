"""Object storage: objects, versioned tables, models. The only place that talks to S3."""
