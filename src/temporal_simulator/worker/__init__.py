"""What a worker does: activations, replay, cancellations."""
