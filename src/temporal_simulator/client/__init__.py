"""The gRPC service behind Temporal's own client."""
