//! A server that gives every request the same answer: for what a real node will not do on demand.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

/// Answers until the test ends.
pub(crate) fn answering(status: &'static str, content_type: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, status, content_type, body));
        }
    });
    format!("http://{address}")
}

/// Answers each path with its own body of JSON until the test ends.
pub(crate) fn serving(bodies: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let head = BufReader::new(stream.try_clone().expect("a socket")).lines().map_while(Result::ok);
            let head: Vec<_> = head.take_while(|line| !line.is_empty()).collect();
            let asked = head.first().and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().trim_end_matches('?');
            let body = bodies.iter().find(|(path, _)| *path == asked).map_or("{}", |(_, body)| *body);
            write_answer(stream, "200 OK", "application/json", body);
        }
    });
    format!("http://{address}")
}

/// Answers one request with an empty list; gives the head of what it was asked.
pub(crate) fn overhearing() -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let heard = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a caller");
        let lines = BufReader::new(stream.try_clone().expect("a socket")).lines().map_while(Result::ok);
        let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        write_answer(stream, "200 OK", "application/json", r#"{"services":[]}"#);
        head.join("\n")
    });
    (format!("http://{address}"), heard)
}

/// A port that nobody listens on.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn answer(stream: TcpStream, status: &str, content_type: &str, body: &str) {
    let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    write_answer(stream, status, content_type, body);
}

fn write_answer(mut stream: TcpStream, status: &str, content_type: &str, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all((head + body).as_bytes());
}
