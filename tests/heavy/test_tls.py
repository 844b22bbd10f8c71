"""HTTPS as many languages speak it; each checks the server's certificate."""

from __future__ import annotations

import os

import pytest

from tests.apps.lab import SYSTEM_PYTHON, Place, in_places, require

SIZE = 4 << 20
NGINX = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    server {{
        listen {port} ssl http2;
        root {folder};
    }}
}}
"""
# Each gets the URL and the certificate as its last words.
CLIENTS = {
    "curl": ("sh", "-c", 'curl -sS --cacert "$1" "$0"'),
    "curl-http1": ("sh", "-c", 'curl -sS --http1.1 --cacert "$1" "$0"'),
    "node": (
        *("node", "-e"),
        """require('https').get(process.argv[1], {
            ca: require('fs').readFileSync(process.argv[2])
        }, (answer) => answer.pipe(process.stdout))""",
    ),
    "perl": (
        *("perl", "-MHTTP::Tiny", "-e"),
        """my $got = HTTP::Tiny->new(verify_SSL => 1,
            SSL_options => {SSL_ca_file => $ARGV[1]})->get($ARGV[0]);
        print $got->{success} ? $got->{content} : die $got->{content}""",
    ),
    "php": (
        *("php", "-r"),
        """echo file_get_contents($argv[1], false,
            stream_context_create(['ssl' => ['cafile' => $argv[2]]]));""",
    ),
    "python": (
        *(SYSTEM_PYTHON, "-c"),
        "import ssl, sys, urllib.request as r\n"
        "context = ssl.create_default_context(cafile=sys.argv[2])\n"
        "sys.stdout.buffer.write(r.urlopen(sys.argv[1], context=context).read())",
    ),
    "ruby": (
        *("ruby", "-rnet/http", "-e"),
        """url = URI(ARGV[0]); http = Net::HTTP.new(url.hostname, url.port)
        http.use_ssl = true; http.ca_file = ARGV[1]
        print http.get(url.path).body""",
    ),
    "wget": ("sh", "-c", 'wget -q -O - --ca-certificate="$1" "$0"'),
}


@in_places("native", "outward")
@pytest.mark.parametrize("name", CLIENTS)
def test_client_fetches_by_https(place: Place, name: str) -> None:
    command = CLIENTS[name]
    require("nginx", "openssl", "curl", "wget", command[0])
    folder = place.server.folder
    (folder / "big").write_bytes(os.urandom(SIZE))
    place.server.run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=test", "-addext"),
        f"subjectAltName=IP:127.0.0.1,IP:{place.host}",
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
    )
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, port=place.listen))
    with place.server.serve(
        *("nginx", "-p", str(folder), "-e", "stderr", "-c", str(path)),
        port=place.listen,
        host="127.0.0.1",
    ):
        url = place.url("big").replace("http:", "https:")
        program = place.client.begin(*command, url, str(folder / "cert.pem"))
        assert program.finish().status == 0, program.said()
    assert program.output.read_bytes() == (folder / "big").read_bytes()
