"""Looks for somebody outside, who answers `hello`: arguments are an address, a port for TCP and
UDP, and the path and the abstract name of sockets."""
import errno, socket, sys

host, port, path, name = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]


def attempt(what, family, kind, address):
    answer = 0
    try:
        sock = socket.socket(family, kind)
        sock.settimeout(5)
        sock.connect(address)
        sock.send(b"hello?")
        if sock.recv(5) != b"hello":
            answer = errno.ENOMSG
    except TimeoutError:
        answer = errno.ETIMEDOUT
    except OSError as error:
        answer = error.errno
    print("refused" if answer else "did", what, errno.errorcode.get(answer, answer))


attempt("tcp", socket.AF_INET, socket.SOCK_STREAM, (host, port))
attempt("loopback", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port))
attempt("udp", socket.AF_INET, socket.SOCK_DGRAM, (host, port))
attempt("name_server", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", port))
attempt("path", socket.AF_UNIX, socket.SOCK_STREAM, path)
attempt("abstract", socket.AF_UNIX, socket.SOCK_STREAM, "\0" + name)
