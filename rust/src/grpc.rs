//! gRPC over HTTP/2, pure: message framing, grpc-timeout, grpc-message, gzip.
//! Texts and codes are those of grpc-go, since clients match on them.

use std::io::{Read, Write};

pub mod code {
    pub const OK: u32 = 0;
    pub const CANCELLED: u32 = 1;
    pub const UNKNOWN: u32 = 2;
    pub const DEADLINE_EXCEEDED: u32 = 4;
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    pub const UNIMPLEMENTED: u32 = 12;
    pub const INTERNAL: u32 = 13;
    pub const UNAVAILABLE: u32 = 14;
    pub const UNAUTHENTICATED: u32 = 16;
    pub const PERMISSION_DENIED: u32 = 7;
}

/// A status that is not OK: code and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status(pub u32, pub String);

pub const PREFIX: usize = 5;

/// The five bytes before a message.
pub fn prefix(compressed: bool, length: usize) -> [u8; PREFIX] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [compressed as u8, a, b, c, d]
}

/// One message, still as it was on the wire.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Borrowed(bool, &'a [u8]), // compressed?, bytes
    Owned(bool, Vec<u8>),
}

/// Puts the messages of one stream together from pieces of any size.
#[derive(Default)]
pub struct Assembler {
    head: [u8; PREFIX],
    head_len: usize,
    body: Vec<u8>,
}

impl Assembler {
    /// Take the next message out of `data`, which shrinks; None: all of it was kept for later.
    pub fn next<'a>(
        &mut self,
        data: &mut &'a [u8],
        max: usize,
    ) -> Result<Option<Message<'a>>, Status> {
        if self.head_len == 0
            && let Some((head, rest)) = data.split_first_chunk::<PREFIX>()
        {
            let (compressed, length) = parse_prefix(head, max)?;
            if let Some((message, after)) = rest.split_at_checked(length) {
                *data = after;
                return Ok(Some(Message::Borrowed(compressed, message)));
            }
        }
        if data.is_empty() {
            return Ok(None);
        }
        let count = (PREFIX - self.head_len).min(data.len());
        self.head[self.head_len..self.head_len + count].copy_from_slice(&data[..count]);
        self.head_len += count;
        *data = &data[count..];
        if self.head_len < PREFIX {
            return Ok(None);
        }
        let (compressed, length) = parse_prefix(&self.head, max)?;
        let count = (length - self.body.len()).min(data.len());
        self.body.extend_from_slice(&data[..count]);
        *data = &data[count..];
        if self.body.len() < length {
            return Ok(None);
        }
        self.head_len = 0;
        Ok(Some(Message::Owned(compressed, std::mem::take(&mut self.body))))
    }

    /// Bytes of an unfinished message.
    pub fn kept(&self) -> usize {
        self.body.len()
    }

    /// Did the stream end inside a message?
    pub fn is_torn(&self) -> bool {
        self.head_len > 0
    }
}

fn parse_prefix(head: &[u8; PREFIX], max: usize) -> Result<(bool, usize), Status> {
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] > 1 {
        let text = format!("grpc: received unexpected payload format {}", head[0]);
        return Err(Status(code::INTERNAL, text));
    }
    if length > max {
        return Err(too_large(length, max));
    }
    Ok((head[0] == 1, length))
}

fn too_large(length: usize, max: usize) -> Status {
    let text = format!("grpc: received message larger than max ({length} vs. {max})");
    Status(code::RESOURCE_EXHAUSTED, text)
}

/// `grpc-timeout` in nanoseconds; None if it is malformed.
pub fn timeout_ns(value: &[u8]) -> Option<u64> {
    let (&unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0u64, |sum, digit| sum * 10 + (digit - b'0') as u64);
    let scale: u64 = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    };
    Some(count.saturating_mul(scale))
}

/// The shortest `grpc-timeout` that is not below `ms`.
pub fn timeout_text(ms: u64) -> String {
    for (scale, unit) in [(1, 'm'), (1_000, 'S'), (60_000, 'M')] {
        let count = ms.div_ceil(scale);
        if count < 100_000_000 {
            return format!("{count}{unit}");
        }
    }
    format!("{}H", ms.div_ceil(3_600_000).min(99_999_999))
}

/// Percent-encode a status text for `grpc-message`.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The reverse; what is not valid stays as it is, bytes that are no UTF-8 are replaced.
pub fn percent_decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let pair = text.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let value = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (text[at], value) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                at += 3;
            }
            (byte, _) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn gzip<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let level = flate2::Compression::fast();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    for piece in pieces {
        let _ = encoder.write_all(piece); // writing to a vector cannot fail
    }
    encoder.finish().unwrap_or_default()
}

pub fn gunzip(message: &[u8], max: usize) -> Result<Vec<u8>, Status> {
    let mut plain = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(message).take(max as u64 + 1);
    if let Err(error) = reader.read_to_end(&mut plain) {
        let text = format!("grpc: failed to decompress the received message: {error}");
        return Err(Status(code::INTERNAL, text));
    }
    if plain.len() > max {
        let text = format!("grpc: received message after decompression larger than max {max}");
        return Err(Status(code::RESOURCE_EXHAUSTED, text));
    }
    Ok(plain)
}

/// The status for an HTTP answer without grpc-status (gRPC's http-grpc-status-mapping).
pub fn code_of_http(status: u16) -> u32 {
    match status {
        400 => code::INTERNAL,
        401 => code::UNAUTHENTICATED,
        403 => code::PERMISSION_DENIED,
        404 => code::UNIMPLEMENTED,
        429 | 502 | 503 | 504 => code::UNAVAILABLE,
        _ => code::UNKNOWN,
    }
}

/// What grpc-go answers for a path that is none of ours.
pub fn unknown_path(path: &str, known_services: impl Fn(&str) -> bool) -> Status {
    let trimmed = path.strip_prefix('/').unwrap_or(path);
    let text = match trimmed.rsplit_once('/') {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if known_services(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    };
    Status(code::UNIMPLEMENTED, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However a stream is cut, the same messages come out.
    #[test]
    fn assembles_messages_cut_anywhere() {
        let messages: [&[u8]; 4] = [b"", b"a", b"hello", &[7; 300]];
        let mut wire = Vec::new();
        for message in messages {
            wire.extend_from_slice(&prefix(false, message.len()));
            wire.extend_from_slice(message);
        }
        for size in 1..wire.len() {
            let mut assembler = Assembler::default();
            let mut found: Vec<Vec<u8>> = Vec::new();
            for piece in wire.chunks(size) {
                let mut data = piece;
                while let Some(message) = assembler.next(&mut data, 1000).unwrap() {
                    found.push(match message {
                        Message::Borrowed(_, bytes) => bytes.to_vec(),
                        Message::Owned(_, bytes) => bytes,
                    });
                }
                assert!(data.is_empty());
            }
            assert_eq!(found, messages.map(<[u8]>::to_vec), "pieces of {size}");
            assert!(!assembler.is_torn());
        }
    }

    #[test]
    fn refuses_a_message_one_byte_too_long() {
        let mut data: &[u8] = &[0, 0, 0, 0, 11];
        let refused = Assembler::default().next(&mut data, 10).unwrap_err();
        assert_eq!(refused.0, code::RESOURCE_EXHAUSTED);
        assert_eq!(refused.1, "grpc: received message larger than max (11 vs. 10)");
        let mut data: &[u8] = &[2, 0, 0, 0, 1];
        assert_eq!(Assembler::default().next(&mut data, 10).unwrap_err().0, code::INTERNAL);
    }

    #[test]
    fn reads_timeouts() {
        assert_eq!(timeout_ns(b"5S"), Some(5_000_000_000));
        assert_eq!(timeout_ns(b"4999999u"), Some(4_999_999_000));
        assert_eq!(timeout_ns(b"99999999H"), Some(u64::MAX));
        for bad in [&b""[..], b"S", b"123456789m", b"1x", b"-1S"] {
            assert_eq!(timeout_ns(bad), None);
        }
        assert_eq!(timeout_text(5_000), "5000m");
        assert_eq!(timeout_text(100_000_000), "100000S");
    }

    #[test]
    fn texts_survive_percent_encoding() {
        for text in ["plain", "50% of it", "zwei\nZeilen – ü", ""] {
            assert_eq!(percent_decode(percent_encode(text).as_bytes()), text);
        }
        assert_eq!(percent_encode("a\u{7f}%"), "a%7F%25");
        assert_eq!(percent_decode(b"%zz%4"), "%zz%4");
    }

    #[test]
    fn gzip_goes_both_ways_and_bombs_are_bounded() {
        let plain = vec![b'x'; 100_000];
        let packed = gzip([&plain[..]]);
        assert_eq!(gunzip(&packed, 100_000).unwrap(), plain);
        assert_eq!(gunzip(&packed, 99_999).unwrap_err().0, code::RESOURCE_EXHAUSTED);
        assert_eq!(gunzip(b"nonsense", 10).unwrap_err().0, code::INTERNAL);
    }

    #[test]
    fn names_what_is_unknown() {
        let known = |service: &str| service == "a.B";
        assert_eq!(unknown_path("/a.B/C", known).1, "unknown method C for service a.B");
        assert_eq!(unknown_path("/x.Y/C", known).1, "unknown service x.Y");
        assert_eq!(unknown_path("/nothing", known).1, "malformed method name: \"/nothing\"");
    }
}
