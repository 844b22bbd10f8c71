"""Fetch a file by FTP and abort it, as old clients do: abort.py HOST PORT.

The abort's Telnet mark is urgent: it overtakes what the server's process still does.
"""

# ruff: noqa: T201

import ftplib
import socket
import sys

BIG = 64 << 20
IAC, IP, DM = b"\xff", b"\xf4", b"\xf2"


def main() -> None:
    """Talk to the server and print its codes."""
    ftp = ftplib.FTP(timeout=30)
    ftp.connect(sys.argv[1], int(sys.argv[2]))
    ftp.login()
    ftp.voidcmd("TYPE I")
    assert ftp.size("big") == BIG
    data = ftp.transfercmd("RETR big")
    assert len(data.recv(1000)) > 0
    assert ftp.sock is not None
    ftp.sock.sendall(IAC + IP)
    ftp.sock.send(IAC, socket.MSG_OOB)
    ftp.sock.sendall(DM + b"ABOR\r\n")
    while data.recv(1 << 20):
        pass
    data.close()
    for _ in range(2):
        print(ftp.getmultiline()[:3])
    print(ftp.sendcmd("NOOP")[:3])
    ftp.quit()


if __name__ == "__main__":
    main()
