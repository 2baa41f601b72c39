"""Python's http.client and requests against the appliance: HOST WWW-ROOT."""

import hashlib
import http.client
import os
import sys

import requests

host, www = sys.argv[1:]


def on_disk(name):
    with open(os.path.join(www, name), "rb") as file:
        return file.read()


def digest(pieces):
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.digest()


def with_http_client():
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.connect()
    socket = connection.sock
    for n in range(50):
        name = f"many/{n}.bin"
        connection.request("GET", f"/{name}")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, on_disk(name)), name
        connection.request("HEAD", f"/{name}")
        head = connection.getresponse()
        assert (head.status, head.read(), head.length) == (200, b"", 0), name
        assert head.headers["Content-Length"] == answer.headers["Content-Length"], name
    connection.request("GET", "/missing")
    answer = connection.getresponse()
    assert (answer.status, len(answer.read()) > 0) == (404, True)
    connection.request("POST", "/many/1.bin", body=b"hello")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    answer.read()
    # An iterator as its body: http.client sends it in chunks.
    connection.request("GET", "/many/1.bin", body=iter([b"a", b"b" * 1000]), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, on_disk("many/1.bin"))
    assert connection.sock is socket, "all on one connection"
    connection.close()


def with_requests():
    url = f"http://{host}"
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"
        for n in range(50):
            name = f"many/{n}.bin"
            assert session.get(f"{url}/{name}", timeout=20).content == on_disk(name), name
        with session.get(f"{url}/large.bin", stream=True, timeout=20) as answer:
            assert digest(answer.iter_content(10_000)) == digest([on_disk("large.bin")])
            modified, tag = answer.headers["Last-Modified"], answer.headers["ETag"]
        for condition in [{"If-Modified-Since": modified}, {"If-None-Match": tag}]:
            answer = session.get(f"{url}/large.bin", headers=condition, timeout=20)
            assert (answer.status_code, answer.content) == (304, b""), condition
        part = {"Range": "bytes=1000000-1999999", "If-Range": tag}
        answer = session.get(f"{url}/large.bin", headers=part, timeout=20)
        assert answer.status_code == 206
        assert answer.content == on_disk("large.bin")[1_000_000:2_000_000]
        answer = session.get(f"{url}/folder", timeout=20)
        assert answer.text == "index"
        assert [(it.status_code, it.headers["Location"]) for it in answer.history] == [(301, "/folder/")]
        assert session.get(f"{url}/missing", timeout=20).status_code == 404
        assert session.options(f"{url}/large.bin", timeout=20).status_code == 204


with_http_client()
with_requests()
