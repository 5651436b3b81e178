"""The client side: the gRPC service that Temporal's own client calls."""
