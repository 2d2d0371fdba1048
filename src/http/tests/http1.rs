//! The listener from the socket: bounds, times, malformed requests, and the end.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Door;
use crate::http::Bound;

const PATIENCE: Duration = Duration::from_secs(5);

/// Sends bytes, and reads until the other side closes.
async fn say(stream: &mut TcpStream, bytes: &[u8]) -> String {
    // The other side may close before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed in time");
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) fn listening(door: &Door) -> std::net::SocketAddr {
    let bound = Bound::bind(door.app.config.http.listen).unwrap();
    let address = bound.address();
    bound.serve(door.app.clone());
    address
}

#[tokio::test]
async fn it_is_reached_where_it_says_and_stops_when_told() {
    let door = Door::open("http1-stops");
    let address = listening(&door);
    assert_ne!(address.port(), 0);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = say(&mut stream, b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer}");

    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut http2 = TcpStream::connect(address).await.unwrap();
    http2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    http2.read_exact(&mut first[..9]).await.unwrap();
    door.app.shutdown.begin();
    assert!(say(&mut idle, b"").await.ends_with("ok\n"));
    assert_eq!(say(&mut silent, b"").await, "");
    say(&mut http2, b"").await;
    assert!(door.app.shutdown.ended(PATIENCE).await);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn who_does_not_speak_is_not_waited_for() {
    let door = Door::with("http1-silent", |config| config.http.header_timeout_ms = 200);
    let address = listening(&door);
    for beginning in [&b""[..], b"PR", b"GET /livez HTTP/1.1\r\nhost:", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        say(&mut stream, beginning).await;
    }
    assert!(door.app.metrics.render().contains("muster_http_connections_timed_out_total{node=\"http1-silent\"} 4"));
}

/// An HTTP/2 frame with a payload of `length` bytes, of which `sent` are there.
fn frame(kind: u8, flags: u8, length: u8, sent: usize) -> Vec<u8> {
    let stream = u8::from(kind == 1);
    [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], &vec![0x82; sent]].concat()
}

#[tokio::test]
async fn every_head_has_its_time_and_not_the_first_alone() {
    let door = Door::with("http1-heads", |config| config.http.header_timeout_ms = 300);
    let address = listening(&door);
    let answered = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let http2 = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, 0)].concat();
    for (first, second) in
        [(answered.to_vec(), b"GET /livez HTTP/1.1\r\nhost:".to_vec()), (http2.clone(), frame(1, 4, 100, 3)), (http2, frame(1, 0, 1, 1))]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&first).await.unwrap();
        let mut begun = [0; 9];
        stream.read_exact(&mut begun).await.unwrap();
        say(&mut stream, &second).await;
    }
    assert!(door.app.metrics.render().contains("muster_http_connections_timed_out_total{node=\"http1-heads\"} 3"));
}

#[tokio::test]
async fn a_connection_waits_for_its_next_request_as_long_as_is_configured() {
    let door = Door::with("http1-idle", |config| config.http.idle_timeout_ms = 200);
    let mut stream = TcpStream::connect(listening(&door)).await.unwrap();
    let answer = say(&mut stream, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.ends_with("ok\n"), "{answer}");
    assert!(door.app.metrics.render().contains("muster_http_connections_timed_out_total{node=\"http1-idle\"} 1"));
}

#[tokio::test]
async fn a_connection_that_gave_its_buffers_back_goes_on() {
    let door = Door::open("http1-gives-back");
    let mut stream = TcpStream::connect(listening(&door)).await.unwrap();
    for pieces in [&[&b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"[..]][..], &[b"G", b"ET /livez HTTP/1.1\r\nhost: x\r\n\r\n"]] {
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
        let mut answer = vec![0; 4096];
        let length = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&answer[..length]).ends_with("ok\n"));
    }
    let last = say(&mut stream, b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(last.ends_with("ok\n"), "{last}");
}

#[tokio::test]
async fn bodies_that_do_not_come_take_no_memory_from_those_that_do() {
    let door = Door::with("http1-bodies", |config| config.http.bodies_bytes_max = 64 << 10);
    let address = listening(&door);
    let put =
        |length: usize| format!("PUT /v1/services/a/instances/b HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n").into_bytes();
    let mut held = Vec::new();
    for sent in [40_000, 20_000] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&[put(50_000), vec![b' '; sent]].concat()).await.unwrap();
        held.push(stream);
    }
    let full = async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&[put(1 << 20), vec![b' '; 30_000]].concat()).await.unwrap();
            let mut answer = vec![0; 4096];
            let read = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut answer)).await;
            if let Ok(Ok(length)) = read {
                return String::from_utf8_lossy(&answer[..length]).into_owned();
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, full).await.expect("there is no more memory");
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1") && answer.contains("http.bodies_bytes_max"),
        "{answer}"
    );
    let mut small = TcpStream::connect(address).await.unwrap();
    let head = b"POST /v1/services/a/instances/b/heartbeat HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{";
    small.write_all(head).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = say(&mut small, b"}").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("unknown_lease"), "{answer}");
    drop(held);
    let free = async {
        loop {
            let body = format!("{{\"address\":\"a\",\"port\":1}}{}", " ".repeat(40_000));
            if door.put("/v1/services/a/instances/b", &body).await.status == 201 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("the memory is given back");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let door = Door::with("http1-full", |config| config.http.connections_max = 1);
    let address = listening(&door);
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut begun = [0; 15];
    first.read_exact(&mut begun).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    let answer = say(&mut second, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("retry-after: 1") && answer.contains("\"code\":\"overloaded\""), "{answer}");
    drop(first);
    let place = async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if say(&mut stream, b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, place).await.expect("the place is free again");
}

#[tokio::test]
async fn who_sends_slowly_does_not_hold_up_the_end() {
    let door = Door::with("http1-slow", |config| config.node.leave_timeout_ms = 400);
    let mut stream = TcpStream::connect(listening(&door)).await.unwrap();
    stream.write_all(b"PUT /v1/services/a/instances/b HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    while door.app.metrics.render().contains("muster_http_connections{node=\"http1-slow\"} 0") {
        tokio::task::yield_now().await;
    }
    door.app.shutdown.begin();
    assert!(door.app.shutdown.ended(Duration::from_millis(400)).await);
    assert_eq!(say(&mut stream, b"").await, "");
}

#[tokio::test]
async fn a_request_over_http1_has_one_host() {
    let door = Door::open("http1-host");
    let address = listening(&door);
    for (head, status) in [
        ("GET /livez HTTP/1.1\r\n", "400 Bad Request"),
        ("GET /livez HTTP/1.1\r\nhost: a\r\nhost: a\r\n", "400 Bad Request"),
        ("GET /livez HTTP/1.0\r\nhost: a\r\nhost: b\r\n", "400 Bad Request"),
        ("GET /livez HTTP/1.0\r\n", "200 OK"),
        ("GET /livez HTTP/1.1\r\nhost: a\r\n", "200 OK"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = say(&mut stream, format!("{head}connection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.lines().next().unwrap().ends_with(status), "{head}: {answer}");
        assert!(status.starts_with("200") || answer.contains("\"code\":\"invalid_request\""), "{answer}");
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_answered_with_the_bound_and_what_to_do() {
    let door = Door::open("http1-heads-refused");
    let address = listening(&door);
    for (head, code, words) in [
        (format!("GET /v1/watch?service={} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000)), "431 head_too_large", "64 KiB"),
        (format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(3_000_000)), "431 head_too_large", "`POST /v1/watch`"),
        ("GET /livez HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), "400 invalid_request", "HTTP/1.1"),
        ("GET /\0 HTTP/1.1\r\n\r\n".to_owned(), "400 invalid_request", "nothing was changed"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = say(&mut stream, head.as_bytes()).await;
        let (status, code) = code.split_once(' ').unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {answer}");
        let (headers, body) = answer.split_once("\r\n\r\n").unwrap();
        for header in
            ["content-type: application/problem+json", "muster-node: http1-heads-refused", "connection: close", "x-request-id: req-"]
        {
            assert!(headers.contains(header), "{header}: {answer}");
        }
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["code"], code);
        assert!(body["detail"].as_str().unwrap().contains(words), "{body}");
    }
}

#[tokio::test]
async fn a_head_over_http2_that_is_too_large_is_answered_likewise() {
    let door = Door::open("http2-heads-refused");
    let address = listening(&door);
    let stream = TcpStream::connect(address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) = hyper::client::conn::http2::handshake(executor, hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (bytes, status) in [(60_000, 404), (70_000, 431)] {
        let request = axum::http::Request::get("http://x/none").header("x", "a".repeat(bytes)).body(axum::body::Body::empty()).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (status, &"application/problem+json".parse().unwrap()));
    }
}

#[tokio::test]
async fn malformed_requests_are_answered_or_cut_and_hurt_nobody() {
    let door = Door::open("http1-malformed");
    let address = listening(&door);
    let long_head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(200_000)).into_bytes();
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(80_000)).into_bytes();
    for bytes in [
        &b"\r\n\r\n\r\n\0\0\0\0"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"PUT /v1/services/a/instances/b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 7\r\nconnection: close\r\n\r\n{}   {}",
        b"PUT /v1/services/a/instances/b HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n",
        b"PUT /v1/services/a/instances/b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"PUT /v1/services/a/instances/b HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\nconnection: close\r\n\r\n",
        b"CONNECT evil:80 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET http://evil/livez HTTP/1.0\r\n\r\n",
        &long_head,
        &long_path,
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let _ = stream.shutdown().await;
        let answer = say(&mut stream, b"").await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{answer}");
        assert!(!answer.starts_with("HTTP/1.1 5"), "{answer}");
    }
    assert_eq!(door.get("/livez").await.status, 200);
    assert_eq!(door.app.node.catalog().instance_count(), 0);
    assert!(door.app.metrics.render().contains("muster_http_panics_total{node=\"http1-malformed\"} 0"));
}
