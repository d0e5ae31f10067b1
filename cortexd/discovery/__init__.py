"""What running neurons say about themselves, asked all at once, and how that becomes ``fleet.lock``."""
