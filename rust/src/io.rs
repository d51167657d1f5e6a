//! A socket (TCP or unix), with or without TLS, as two buffers of plain bytes.
//!
//! Reading goes through the caller's scratch buffer, so an idle connection holds no memory.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let done = match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        done.map_ok(|()| buffer.filled().len())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, data),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    pub fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(data),
            Socket::Unix(stream) => stream.try_write(data),
        }
    }

    fn shutdown(&self) {
        // What is gone already needs no goodbye.
        let _ = match self {
            Socket::Tcp(stream) => socket2::SockRef::from(stream).shutdown(Shutdown::Write),
            Socket::Unix(stream) => socket2::SockRef::from(stream).shutdown(Shutdown::Write),
        };
    }
}

/// Bytes on their way out; `start` of them have left.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    start: usize,
}

const KEPT_BUFFER_BYTES_MAX: usize = 32 << 10;

impl Pending {
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn sent(&mut self, count: usize) {
        self.start += count;
        if self.start == self.bytes.len() {
            self.start = 0;
            if self.bytes.capacity() > KEPT_BUFFER_BYTES_MAX {
                self.bytes = Vec::new();
            } else {
                self.bytes.clear();
            }
        }
    }
}

/// First bytes of TLS records. Who begins with anything else would not understand an alert.
const TLS_RECORDS: RangeInclusive<u8> = 20..=23;

pub enum Fill {
    /// So many plain bytes are in the scratch buffer (0: TLS made progress without any).
    Data(usize),
    End,
}

pub struct Io {
    socket: Arc<Socket>, // its only owner, except while it is lent
    pub tls: Option<Box<rustls::Connection>>,
    cipher: Pending,
    /// Plain bytes to send.
    pub output: Vec<u8>,
    output_start: usize,
    has_tls_begun: bool,
    /// Bytes that left the socket since the caller last looked.
    pub sent_bytes: u64,
}

impl Io {
    pub fn new(socket: Socket, tls: Option<Box<rustls::Connection>>) -> Self {
        let (cipher, output) = (Pending::default(), Vec::new());
        let socket = Arc::new(socket);
        Io { socket, tls, cipher, output, output_start: 0, has_tls_begun: false, sent_bytes: 0 }
    }

    /// Bytes that have not left yet.
    pub fn unsent(&self) -> usize {
        self.output.len() - self.output_start + self.cipher.len()
    }

    /// The socket for somebody else to write to, and what should go out first; None: not now.
    /// Only with the output as it is may it be lent: empty, or `small` and not begun.
    pub fn lend(&self, small: bool) -> Option<(Arc<Socket>, Vec<u8>)> {
        let ready = self.output.is_empty() || small && self.output_start == 0;
        (ready && self.tls.is_none()).then(|| (Arc::clone(&self.socket), self.output.clone()))
    }

    /// The output was written by somebody else, with more behind it, except for `rest`.
    pub fn replace_output(&mut self, rest: Vec<u8>) {
        self.output.clear();
        self.output.extend_from_slice(&rest);
        self.output_start = 0;
    }

    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        cipher_scratch: &mut [u8],
    ) -> Poll<io::Result<Fill>> {
        let Some(tls) = self.tls.as_mut() else {
            return only(&mut self.socket)?.poll_read(cx, scratch).map_ok(|count| match count {
                0 => Fill::End,
                count => Fill::Data(count),
            });
        };
        let count = match only(&mut self.socket)?.poll_read(cx, cipher_scratch) {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        if count == 0 {
            return Poll::Ready(Ok(Fill::End));
        }
        if !std::mem::replace(&mut self.has_tls_begun, true)
            && !TLS_RECORDS.contains(&cipher_scratch[0])
        {
            let text = "tls: first record does not look like a TLS handshake";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let mut cipher = &cipher_scratch[..count];
        let mut plain = 0;
        let mut ended = false;
        // Plain text is never longer than the cipher text it came in, so `scratch` has room,
        // except for what an earlier record left behind; that waits in `tls` for the next turn.
        while !cipher.is_empty() {
            tls.read_tls(&mut cipher)?;
            let processed = tls.process_new_packets();
            if let Err(error) = processed {
                self.encrypt_alert();
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            ended |= read_plain(tls, scratch, &mut plain)?;
        }
        if ended && plain == 0 {
            return Poll::Ready(Ok(Fill::End));
        }
        Poll::Ready(Ok(Fill::Data(plain)))
    }

    /// A fatal alert tells the other side why; it goes out with the last flush.
    fn encrypt_alert(&mut self) {
        if let Some(tls) = self.tls.as_mut() {
            while tls.wants_write() && tls.write_tls(&mut self.cipher.bytes).is_ok_and(|n| n > 0) {}
        }
    }

    /// Turn plain output into records.
    fn encrypt(&mut self) -> io::Result<()> {
        loop {
            let Some(tls) = self.tls.as_mut() else { return Ok(()) };
            while tls.wants_write() {
                tls.write_tls(&mut self.cipher.bytes)?;
            }
            if self.output_start == self.output.len() || tls.is_handshaking() {
                return Ok(());
            }
            let written = tls.writer().write(&self.output[self.output_start..])?;
            self.output_left(written);
        }
    }

    fn output_left(&mut self, count: usize) {
        self.output_start += count;
        if self.output_start == self.output.len() {
            self.output_start = 0;
            if self.output.capacity() > KEPT_BUFFER_BYTES_MAX {
                self.output = Vec::new();
            } else {
                self.output.clear();
            }
        }
    }

    /// Write as much as the socket takes. Ready: everything has left.
    fn flush_with(
        &mut self,
        mut write: impl FnMut(&mut Socket, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        self.encrypt()?;
        let encrypted = self.tls.is_some();
        loop {
            let data = if encrypted {
                &self.cipher.bytes[self.cipher.start..]
            } else {
                &self.output[self.output_start..]
            };
            if data.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match write(only(&mut self.socket)?, data) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.sent_bytes += count as u64;
                    if encrypted { self.cipher.sent(count) } else { self.output_left(count) }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// From the connection's own task: it is woken when the socket takes more.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush_with(|socket, data| socket.poll_write(cx, data))
    }

    /// From anywhere else: false means the connection's task has to go on with it.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        let done = self.flush_with(|socket, data| match socket.try_write(data) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            other => Poll::Ready(other),
        });
        match done {
            Poll::Ready(result) => result.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    /// Say goodbye on the TLS layer; goes out with the next flush.
    pub fn close_notify(&mut self) {
        if let Some(tls) = self.tls.as_mut() {
            tls.send_close_notify();
        }
    }

    pub fn shutdown(&mut self) {
        self.socket.shutdown();
    }
}

/// The socket, which is not lent now.
fn only(socket: &mut Arc<Socket>) -> io::Result<&mut Socket> {
    Arc::get_mut(socket).ok_or_else(|| io::Error::other("the socket is lent"))
}

/// Move decrypted bytes into `scratch` behind `plain` others; true: the peer closed its half.
fn read_plain(
    tls: &mut rustls::Connection,
    scratch: &mut [u8],
    plain: &mut usize,
) -> io::Result<bool> {
    while *plain < scratch.len() {
        match tls.reader().read(&mut scratch[*plain..]) {
            Ok(0) => return Ok(true),
            Ok(count) => *plain += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
