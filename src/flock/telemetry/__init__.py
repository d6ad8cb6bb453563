"""What Flocks tell OpenTelemetry, by its API package alone; `flock.tracing` says where that goes."""
