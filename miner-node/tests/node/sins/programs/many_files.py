"""Writes so many MiB, in files of a quarter, and deletes none."""
import sys

for number in range(4 * int(sys.argv[1])):
    with open(f"small{number}", "wb") as file:
        file.write(bytes(1 << 18))
print("did many_files")
