//! A slow line: a TCP proxy before a nats-server that is far away, or through which little fits. All its connections share it, as those of
//! one node do; each direction by itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What is read at once: on a thin line others take turns with it.
const PIECE_BYTES: usize = 4096;
/// Pieces on their way on one connection: 4 MiB, which a far line of 10 MiB a second needs. Past it nothing more is read, as with any TCP.
const PIECES_MAX: usize = 1024;

/// Ends with all its connections when dropped.
pub(crate) struct SlowLine {
    address: SocketAddr,
    inbound: Arc<Direction>,
    _connections: JoinSet<()>,
}

/// What all connections share in one direction.
struct Direction {
    delay: Duration,
    /// `None`: as many as come.
    bytes_a_second: Option<u64>,
    busy_until: Mutex<Instant>,
    bytes: AtomicU64,
}

impl Direction {
    fn new(delay: Duration, bytes_a_second: Option<u64>) -> Arc<Self> {
        Arc::new(Self { delay, bytes_a_second, busy_until: Mutex::new(Instant::now()), bytes: AtomicU64::new(0) })
    }

    /// When a piece that came now is through.
    fn pass(&self, bytes: usize) -> Instant {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut busy_until = self.busy_until.lock().expect("a line");
        let takes = self.bytes_a_second.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate as f64));
        *busy_until = (*busy_until).max(Instant::now()) + takes;
        *busy_until + self.delay
    }
}

impl SlowLine {
    /// Before the server at this URL: so far away one way, and so many bytes a second in each direction.
    pub(crate) async fn before(nats: &str, delay: Duration, bytes_a_second: Option<u64>) -> Self {
        let server: SocketAddr = nats.strip_prefix("nats://").expect("a URL").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (outbound, inbound) = (Direction::new(delay, bytes_a_second), Direction::new(delay, bytes_a_second));
        let mut connections = JoinSet::new();
        let passed = Arc::clone(&inbound);
        connections.spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(server).await else { continue };
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                ways.spawn(carry(from_near, to_far, Arc::clone(&outbound)));
                ways.spawn(carry(from_far, to_near, Arc::clone(&passed)));
            }
        });
        Self { address, inbound, _connections: connections }
    }

    /// As `MUSTER_NATS` takes it.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Bytes that came to whoever is behind it, on all connections.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.inbound.bytes.load(Ordering::Relaxed)
    }
}

async fn carry(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, direction: Arc<Direction>) {
    let (pieces, mut passed) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let read = async move {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
            let through_at = direction.pass(bytes);
            if pieces.send((through_at, buffer[..bytes].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((through_at, piece)) = passed.recv().await {
            tokio::time::sleep_until(through_at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
