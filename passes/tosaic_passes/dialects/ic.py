"""`ic.*`: no classes."""
