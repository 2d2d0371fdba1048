//! Socket: a connection's bytes on their way to and from the library that speaks HTTP. What was read to find out the protocol comes first;
//! what comes and leaves is counted, for the timers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::edge::Edge;
use super::http2_heads::Http2Heads;
use super::outlet::Outlet;
use super::unread;
use super::waits::Waits;

/// A connection's bytes.
pub(super) struct Socket<S> {
    io: S,
    /// To be read before what comes.
    prefix: Bytes,
    waits: Waits,
    outlet: Arc<Outlet>,
    /// Where the protocol is HTTP/2.
    http2: Option<Http2Heads>,
    /// Where the protocol is HTTP/1.1: answers what the library cannot read.
    edge: Option<Edge>,
    /// What is written in the place of an answer that the library made by itself; empty: nothing.
    instead: Bytes,
}

/// What can be waited for without a buffer to read into.
pub(super) trait Readable {
    /// Something can be read, or the other end has closed.
    async fn readable(&mut self) -> io::Result<()>;
}

impl Readable for TcpStream {
    async fn readable(&mut self) -> io::Result<()> {
        Self::readable(self).await
    }
}

impl Readable for TlsStream<TcpStream> {
    async fn readable(&mut self) -> io::Result<()> {
        let (stream, tls) = self.get_mut();
        // What came together with the handshake's end has left the socket: it is held here, and no more may come.
        let held = tls.process_new_packets().map_err(io::Error::other)?;
        if held.plaintext_bytes_to_read() > 0 || held.peer_has_closed() { Ok(()) } else { stream.readable().await }
    }
}

impl<S> Socket<S> {
    pub(super) fn new(io: S, waits: Waits, outlet: Arc<Outlet>) -> Self {
        Self { io, prefix: Bytes::new(), waits, outlet, http2: None, edge: None, instead: Bytes::new() }
    }

    /// The same with bytes that are to be read before what comes.
    pub(super) fn beginning_with(self, prefix: Bytes) -> Self {
        Self { prefix, ..self }
    }

    /// The same, on which what the library answers by itself is replaced.
    pub(super) fn of_http1(self, edge: Edge) -> Self {
        Self { edge: Some(edge), ..self }
    }

    /// The same, whose frames are followed.
    pub(super) fn of_http2(self) -> Self {
        self.waits.become_http2();
        Self { http2: Some(Http2Heads::default()), ..self }
    }

    fn received(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match &mut self.http2 {
            Some(heads) => self.waits.head_is_partial(heads.take(bytes)),
            None => self.waits.received(),
        }
    }
}

impl<S: Readable> Socket<S> {
    /// Waits until something comes.
    pub(super) async fn readable(&mut self) -> io::Result<()> {
        if self.prefix.is_empty() { self.io.readable().await } else { Ok(()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.prefix.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        } else {
            let taken = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix[..taken]);
            self.prefix.advance(taken);
        }
        self.received(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    /// Writes what stands in the place of these bytes; `None`: nothing does.
    fn poll_write_instead(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.instead.is_empty() {
            self.instead = unread::in_place_of(bytes, self.edge.as_ref()?)?.into();
        }
        while !self.instead.is_empty() {
            match Pin::new(&mut self.io).poll_write(context, &self.instead) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(written)) => self.instead.advance(written),
                other => return Some(other),
            }
        }
        Some(Poll::Ready(Ok(bytes.len())))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.waits.set_unflushed(true);
        if let Some(written) = self.poll_write_instead(context, bytes) {
            return written;
        }
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(context));
        if flushed.is_ok() {
            self.waits.set_unflushed(false);
            self.outlet.flushed();
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.waits.set_unflushed(true);
        if let Some(written) = slices.first().and_then(|first| self.poll_write_instead(context, first)) {
            return written;
        }
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
