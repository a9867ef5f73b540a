"""Doubles and doubles, up to so many processes at once. They all stay."""
import os, sys, time

most = int(sys.argv[1])
left, more = os.pipe()
os.write(more, b"." * min(most, 60000))
os.set_blocking(left, False)
news, tell = os.pipe()


def stay(word):
    os.write(tell, word)
    time.sleep(1000)


def sin():
    while True:
        try:
            os.read(left, 1)
        except BlockingIOError:
            stay(b"d")
        try:
            os.fork()
        except OSError:
            stay(b"r")


if os.fork() == 0:
    sin()
print("did" if os.read(news, 1) == b"d" else "refused", "fork_bomb")
