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
