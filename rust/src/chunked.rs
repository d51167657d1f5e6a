//! The chunked transfer coding (RFC 9112 §7.1), pure.

use crate::http;

const LINE_BYTES_MAX: usize = 4096;
const TRAILER_BYTES_MAX: usize = 16 << 10;
const TRAILERS_MAX: usize = 32;

#[derive(Debug, PartialEq, Eq)]
pub struct Bad;

#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Data(&'a [u8]),
    /// More bytes are needed.
    More,
    End(Vec<(String, String)>),
}

#[derive(Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
}

#[derive(Default)]
pub struct Decoder(State);

impl Decoder {
    /// The next piece of the body, at most `room` bytes; `rest` shrinks by what was understood.
    pub fn next<'a>(&mut self, rest: &mut &'a [u8], room: usize) -> Result<Piece<'a>, Bad> {
        loop {
            match &mut self.0 {
                State::Size => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((used, size))) => {
                        *rest = &rest[used..];
                        self.0 = if size == 0 { State::Trailers } else { State::Data(size) };
                    }
                    Ok(httparse::Status::Partial) if rest.len() <= LINE_BYTES_MAX => {
                        return Ok(Piece::More);
                    }
                    _ => return Err(Bad),
                },
                State::Data(left) => {
                    let size = (*left).min(rest.len() as u64).min(room as u64) as usize;
                    if size == 0 {
                        return Ok(Piece::More);
                    }
                    let (data, after) = rest.split_at(size);
                    *rest = after;
                    *left -= size as u64;
                    if *left == 0 {
                        self.0 = State::DataEnd;
                    }
                    return Ok(Piece::Data(data));
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', after @ ..] => {
                        *rest = after;
                        self.0 = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Piece::More),
                    _ => return Err(Bad),
                },
                State::Trailers => return trailers(rest),
            }
        }
    }
}

fn trailers<'a>(rest: &mut &'a [u8]) -> Result<Piece<'a>, Bad> {
    let mut headers = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(rest, &mut headers) {
        Ok(httparse::Status::Complete((used, found))) => {
            let text =
                |h: &httparse::Header<'_>| (h.name.to_ascii_lowercase(), http::latin1(h.value));
            let trailers = found.iter().map(text).collect();
            *rest = &rest[used..];
            Ok(Piece::End(trailers))
        }
        Ok(httparse::Status::Partial) if rest.len() <= TRAILER_BYTES_MAX => Ok(Piece::More),
        _ => Err(Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Body = (Vec<u8>, Vec<(String, String)>);

    fn decode(wire: &[u8], cut: usize) -> Result<Body, Bad> {
        let (mut decoder, mut body, mut kept) = (Decoder::default(), Vec::new(), Vec::new());
        for piece in wire.chunks(cut) {
            kept.extend_from_slice(piece);
            let mut rest = &kept[..];
            loop {
                match decoder.next(&mut rest, 3)? {
                    Piece::Data(data) => body.extend_from_slice(data),
                    Piece::More => break,
                    Piece::End(trailers) => return Ok((body, trailers)),
                }
            }
            let used = kept.len() - rest.len();
            kept.drain(..used);
        }
        Err(Bad)
    }

    #[test]
    fn decodes_however_it_is_cut() {
        let wire = b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n";
        for cut in 1..=wire.len() {
            let (body, trailers) = decode(wire, cut).unwrap();
            assert_eq!(body, b"hello world");
            assert_eq!(trailers, [("x-sum".to_owned(), "1".to_owned())]);
        }
    }

    #[test]
    fn refuses_nonsense() {
        for wire in [&b"x\r\n"[..], b"1\r\nab\r\n", b"fffffffffffffffff\r\n", b"-1\r\n"] {
            assert_eq!(decode(wire, wire.len()), Err(Bad));
        }
    }
}
