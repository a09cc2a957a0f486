"""What several algorithms share; knows none of them."""
