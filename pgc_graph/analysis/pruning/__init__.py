"""Which channels of which tensors can only go together, what they hold, and who reads them."""
