"""Follows a stream with a library of PyPI, as its users do, and prints each event that it yields as a line of JSON.

    follow.py LIBRARY URL

A library that does not connect again by itself is used as its documentation says: in a loop, with the last id and the server's `retry`.
"""
import json
import sys
import time


def show(name, event_id, data):
    print(json.dumps({"name": name, "id": event_id or None, "data": data}), flush=True)


def again(open_stream):
    """Follows one stream after another; `open_stream(last_id)` yields events with `id` and `retry`."""
    last_id, retry_ms = None, 1000
    while True:
        try:
            for event in open_stream(last_id):
                last_id = event.id or last_id
                retry_ms = int(event.retry or retry_ms)
                show(event.event, event.id, event.data)
        except OSError as error:
            print(error, file=sys.stderr)
        except Exception as error:  # each library wraps what its socket says
            print(error, file=sys.stderr)
        time.sleep(retry_ms / 1000)


def headers(last_id):
    return {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}


def with_httpx_sse(url):
    import httpx
    import httpx_sse

    def open_stream(last_id):
        timeout = httpx.Timeout(5, read=30)
        with httpx.Client(timeout=timeout) as client, httpx_sse.connect_sse(client, "GET", url, headers=headers(last_id)) as source:
            yield from source.iter_sse()

    again(open_stream)


def with_sseclient_py(url):
    import requests
    import sseclient

    def open_stream(last_id):
        response = requests.get(url, stream=True, headers=headers(last_id), timeout=30)
        response.raise_for_status()
        yield from sseclient.SSEClient(response.iter_content(chunk_size=None)).events()

    again(open_stream)


def with_sseclient(url):
    import sseclient

    # It connects again by itself, but gives up where the node behind the address does not listen yet.
    client = sseclient.SSEClient(url, timeout=30)
    for event in client:
        show(event.event, event.id, event.data)


if __name__ == "__main__":
    library, url = sys.argv[1:]
    {"httpx-sse": with_httpx_sse, "sseclient": with_sseclient, "sseclient-py": with_sseclient_py}[library](url)
