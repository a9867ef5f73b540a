"""Waits for somebody to say something."""
import sys

print("did" if sys.stdin.read(5) else "refused", "stdin_reader", "EOF")
