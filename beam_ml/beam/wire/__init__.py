"""What travels between steps, and its bytes."""
