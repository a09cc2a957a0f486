"""What several algorithms use; none of it knows any of them."""
