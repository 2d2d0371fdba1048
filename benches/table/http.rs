//! One keep-alive HTTP/1.1 connection that does no more than it must: the less the generator costs, the more the servers show.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LENGTH_NAME: &[u8] = b"content-length: ";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// A connection with at most one request under way.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    guess: Head,
}

/// An answer, as long as the next request has not been sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// Where a head ends and where it says the body's length. The next answer's head is mostly laid out as the one before: looking there first
/// spares reading it.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    bytes: usize,
    length_at: usize,
}

impl Connection {
    pub(crate) async fn open(host: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 16 * 1024], filled: 0, guess: Head::default() })
    }

    /// Sends a whole request and waits for its whole answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.filled = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[self.filled..]).await?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection within an answer"));
            }
            self.filled += count;
            if let Some(head) = Head::find(&self.buffer[..self.filled], self.guess)? {
                self.guess = head;
                let total = head.bytes + head.body_bytes(&self.buffer);
                if self.filled >= total {
                    return Ok(self.answer(head.bytes, total));
                }
                self.buffer.resize(self.buffer.len().max(total), 0);
            }
        }
    }

    /// Sends a request whose answer is a stream, and hands over the socket.
    pub(crate) async fn into_stream(mut self, request: &[u8]) -> io::Result<TcpStream> {
        self.stream.write_all(request).await?;
        Ok(self.stream)
    }

    fn answer(&self, head: usize, total: usize) -> Answer<'_> {
        Answer { status: status(&self.buffer), head: &self.buffer[..head], body: &self.buffer[head..total] }
    }
}

impl Answer<'_> {
    /// The value of a header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = str::from_utf8(self.head).ok()?;
        head.lines().filter_map(|line| line.split_once(": ")).find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.body).into_owned()
    }
}

impl Head {
    /// The head at the beginning of `bytes`; `None` when its end has not come yet.
    fn find(bytes: &[u8], guess: Self) -> io::Result<Option<Self>> {
        if guess.is_of(bytes) {
            return Ok(Some(guess));
        }
        let Some(end) = position(bytes, HEAD_END) else { return Ok(None) };
        let head = &bytes[..end + HEAD_END.len()];
        let length_at = match position(head, LENGTH_NAME) {
            Some(at) => at + LENGTH_NAME.len(),
            None if matches!(status(head), 204 | 304) => 0,
            None => return Err(io::Error::other(format!("no content-length in {:?}", String::from_utf8_lossy(head)))),
        };
        Ok(Some(Self { bytes: head.len(), length_at }))
    }

    fn is_of(self, bytes: &[u8]) -> bool {
        self.bytes > 0
            && bytes.len() >= self.bytes
            && bytes[..self.bytes].ends_with(HEAD_END)
            && (self.length_at == 0 || bytes[..self.length_at].ends_with(LENGTH_NAME))
    }

    fn body_bytes(self, bytes: &[u8]) -> usize {
        if self.length_at == 0 || status(bytes) == 304 {
            return 0;
        }
        let digits = bytes[self.length_at..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
    }
}

/// `HTTP/1.1 200 OK`: the three digits, 0 where there are none.
fn status(bytes: &[u8]) -> u16 {
    bytes.get(9..12).and_then(|digits| str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
}

/// Where `needle` first stands in `bytes`.
pub(crate) fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
