//! Probes over real sockets.

use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::model::{Address, Port};

fn prober() -> Prober {
    let guard = Guard { loopback: true, ..Guard::default() };
    Prober::new(Probing { guard, ..Probing::default() }, Clock::start())
}

fn probe(port: u16, kind: ProbeKind, timeout_ms: u64) -> Probe {
    Probe { address: Address::parse("127.0.0.1").unwrap(), port: Port::new(port).unwrap(), kind, timeout_ms }
}

fn http(port: u16, timeout_ms: u64) -> Probe {
    probe(port, ProbeKind::Http("/healthz".to_owned()), timeout_ms)
}

/// Says this to everybody once their request has come, then more bytes: so many at a time, so often, after such pauses.
async fn serve(head: &'static str, chunk: usize, times: usize, pause_ms: u64) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(head.as_bytes()).await;
            for _ in 0..times {
                if stream.write_all(&vec![b'x'; chunk]).await.is_err() {
                    break;
                }
                count.fetch_add(chunk, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            }
        }
    });
    (port, sent)
}

#[tokio::test]
async fn two_hundred_and_something_is_well_and_nothing_else_is() {
    let (port, _) = serve("HTTP/1.1 204 No Content\r\n\r\n", 0, 0, 0).await;
    assert!(matches!(prober().look(&http(port, 5000)).await, ProbeOutcome::Passed { code: Some(204), .. }));
    let (port, _) = serve("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", 0, 0, 0).await;
    let seen = prober().look(&http(port, 5000)).await;
    assert_eq!(seen, ProbeOutcome::Failed { why: "HTTP 503".into(), code: Some(503) });
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (target, sent) = serve("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n", 1, 1, 0).await;
    let head: &'static str = format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{target}/\r\ncontent-length: 0\r\n\r\n").leak();
    let (port, _) = serve(head, 0, 0, 0).await;
    let seen = prober().look(&http(port, 5000)).await;
    assert_eq!(seen, ProbeOutcome::Failed { why: "HTTP 302".into(), code: Some(302) });
    assert_eq!(sent.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_that_drips_is_cut_off_with_the_whole_of_it() {
    let (port, _) = serve("HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n", 1, 4000, 20).await;
    let seen = prober().look(&http(port, 300)).await;
    assert_eq!(seen, ProbeOutcome::failed("no answer in 300 ms"));
    let (port, _) = serve("HTTP/1.1 200 OK\r\nx: ", 1, 4000, 20).await;
    assert_eq!(prober().look(&http(port, 300)).await, ProbeOutcome::failed("no answer in 300 ms"));
}

#[tokio::test]
async fn of_a_body_without_end_little_is_read() {
    let (port, sent) = serve("HTTP/1.1 200 OK\r\n\r\n", 64 * 1024, 100_000, 0).await;
    let seen = prober().look(&http(port, 20_000)).await;
    assert!(matches!(seen, ProbeOutcome::Passed { code: Some(200), .. }), "{seen:?}");
    // What the machine's own buffers took is no body that was read; there were six gigabytes to come.
    assert!(sent.load(Ordering::SeqCst) < 64 << 20, "{}", sent.load(Ordering::SeqCst));
    let (port, _) = serve("HTTP/1.1 200 OK\r\n", 0, 0, 0).await;
    let head = prober().look(&http(port, 300)).await;
    assert!(head.is_failure(), "a head without an end: {head:?}");
}

#[tokio::test]
async fn a_port_that_takes_connections_is_well_and_one_that_does_not_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(matches!(prober().look(&probe(port, ProbeKind::Tcp, 5000)).await, ProbeOutcome::Passed { code: None, .. }));
    drop(listener);
    for kind in [ProbeKind::Tcp, ProbeKind::Http("/".to_owned()), ProbeKind::Grpc] {
        assert_eq!(prober().look(&probe(port, kind, 5000)).await, ProbeOutcome::Refused);
    }
}

#[tokio::test]
async fn what_may_not_be_dialled_is_not() {
    let of = |address: &str, guard| {
        let probe = Probe { address: Address::parse(address).unwrap(), ..probe(80, ProbeKind::Tcp, 5000) };
        let prober = Prober::new(Probing { guard, ..Probing::default() }, Clock::start());
        async move { prober.look(&probe).await }
    };
    assert!(matches!(of("169.254.169.254", Guard::default()).await, ProbeOutcome::Forbidden { .. }));
    assert!(matches!(of("127.0.0.1", Guard::default()).await, ProbeOutcome::Forbidden { .. }));
    let denied = Guard { deny: vec!["10.0.0.0/8".parse().unwrap()], ..Guard::default() };
    assert!(matches!(of("10.0.0.7", denied).await, ProbeOutcome::Forbidden { .. }));
}

/// A server of grpc.health.v1 that always gives this message, under this status.
async fn serve_grpc(message: &'static [u8], status: &'static str) -> u16 {
    use hyper::body::Frame;
    use hyper::service::service_fn;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(move |request: Request<Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                let frames = [Ok(Frame::data(Bytes::from_static(message))), Ok::<_, io::Error>(Frame::trailers(trailers))];
                let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
                Ok::<_, io::Error>(Response::builder().header(CONTENT_TYPE, "application/grpc").body(body).unwrap())
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(connection);
        }
    });
    port
}

#[tokio::test]
async fn nothing_is_left_of_a_grpc_probe_whose_time_is_up() {
    // SETTINGS that leave no room for a body: the call can neither be sent nor be given up in order.
    const NO_ROOM: [u8; 15] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (ended, end) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&NO_ROOM).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        let _ = ended.send(());
    });
    let seen = prober().look(&probe(port, ProbeKind::Grpc, 300)).await;
    assert_eq!(seen, ProbeOutcome::failed("no answer in 300 ms"));
    let ended = tokio::time::timeout(Duration::from_secs(15), end).await;
    assert!(ended.is_ok(), "the connection outlives the probe");
}

#[tokio::test]
async fn a_grpc_server_is_well_when_it_says_serving() {
    let look = |port| async move { prober().look(&probe(port, ProbeKind::Grpc, 5000)).await };
    let serving = serve_grpc(&[0, 0, 0, 0, 2, 8, 1], "0").await;
    assert!(matches!(look(serving).await, ProbeOutcome::Passed { .. }));
    let not_serving = serve_grpc(&[0, 0, 0, 0, 2, 8, 2], "0").await;
    assert_eq!(look(not_serving).await, ProbeOutcome::failed("gRPC: not SERVING"));
    let without = serve_grpc(&[], "12").await;
    assert_eq!(look(without).await, ProbeOutcome::failed("the server has no grpc.health.v1"));
    let (http1, _) = serve("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 0, 0, 0).await;
    assert!(look(http1).await.is_failure());
}
