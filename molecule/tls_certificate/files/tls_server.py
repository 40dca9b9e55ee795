# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A server that does nothing but TLS: it reads its certificate when it starts and on SIGHUP, as real ones do."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys

PORTS = {"own": 8441, "www": 8442, "bought": 8443}


def main(name: str) -> None:
    folder = f"/etc/ssl/tls_certificate/{name}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def load(*_signal: object) -> None:
        context.load_cert_chain(f"{folder}/fullchain.pem", f"{folder}/privkey.pem")

    load()
    signal.signal(signal.SIGHUP, load)
    with socket.create_server(("", PORTS[name])) as listener:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notification:
            notification.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
        while True:
            connection, _address = listener.accept()
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError as error:
                print(error)


if __name__ == "__main__":
    main(sys.argv[1])
