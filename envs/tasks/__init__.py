"""Task sets on disk and the gate that every task passes."""
