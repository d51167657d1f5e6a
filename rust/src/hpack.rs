//! HPACK (RFC 7541), pure: header blocks to fields and back. Knows nothing of frames or HTTP.
//!
//! The encoder never uses Huffman codes and never evicts: it remembers a few fields that repeat
//! (content type, status) and sends all others as literals that leave the table alone.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::OnceLock;

/// Decoded header fields in one buffer, in order.
#[derive(Default, Clone, Debug)]
pub struct Fields {
    text: Vec<u8>,
    ends: Vec<(u32, u32)>, // where a name and its value end; the name begins at the previous end
    /// The block was longer than the limit: fields are missing.
    pub truncated: bool,
}

impl Fields {
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.text.extend_from_slice(name);
        let name_end = self.text.len() as u32;
        self.text.extend_from_slice(value);
        self.ends.push((name_end, self.text.len() as u32));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0usize;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let name = &self.text[start..name_end as usize];
            let value = &self.text[name_end as usize..value_end as usize];
            start = value_end as usize;
            (name, value)
        })
    }

    /// The first value of `name`.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|field| field.0 == name).map(|field| field.1)
    }
}

/// The peer broke the compression state; the connection cannot go on (COMPRESSION_ERROR).
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

const ENTRY_OVERHEAD: usize = 32; // RFC 7541 §4.1
/// SETTINGS_HEADER_TABLE_SIZE as both sides start with it, and as we keep it.
pub const TABLE_BYTES: usize = 4096;

type Entry = (Box<[u8]>, Box<[u8]>);

pub struct Decoder {
    entries: VecDeque<Entry>, // newest first
    bytes: usize,
    bytes_max: usize,
    /// Changes with every change of the table: equal versions decode equal blocks equally.
    pub version: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { entries: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES, version: 0 }
    }
}

impl Decoder {
    /// Append the fields of `block`, at most `limit_bytes` (counted as RFC 9113 §6.5.2) of them.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        limit_bytes: usize,
        fields: &mut Fields,
    ) -> Result<(), Broken> {
        let mut kept = 0usize;
        let mut seen_field = false;
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                if seen_field {
                    return Err(Broken); // size updates only at the beginning, §4.2
                }
                let size = integer(&mut block, 5)?;
                self.resize(size)?;
                continue;
            }
            seen_field = true;
            let (name, value) = self.field(first, &mut block)?;
            kept += name.len() + value.len() + ENTRY_OVERHEAD;
            if kept > limit_bytes {
                fields.truncated = true;
            } else {
                fields.push(&name, &value);
            }
        }
        Ok(())
    }

    fn field(&mut self, first: u8, block: &mut &[u8]) -> Result<Entry, Broken> {
        if first & 0x80 != 0 {
            let index = integer(block, 7)?;
            let (name, value) = self.lookup(index)?;
            return Ok((name.into(), value.into()));
        }
        let remember = first & 0x40 != 0;
        let index = integer(block, if remember { 6 } else { 4 })?;
        let name: Box<[u8]> =
            if index == 0 { string(block)? } else { self.lookup(index)?.0.into() };
        let value = string(block)?;
        if remember {
            self.insert(name.clone(), value.clone());
        }
        Ok((name, value))
    }

    fn lookup(&self, index: usize) -> Result<(&[u8], &[u8]), Broken> {
        if index == 0 {
            return Err(Broken);
        }
        if let Some(&(name, value)) = STATIC.get(index - 1) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(index - 1 - STATIC.len()).ok_or(Broken)?;
        Ok((&entry.0, &entry.1))
    }

    fn insert(&mut self, name: Box<[u8]>, value: Box<[u8]>) {
        self.version += 1;
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict(size);
        if size <= self.bytes_max {
            self.bytes += size;
            self.entries.push_front((name, value));
        }
    }

    fn resize(&mut self, size: usize) -> Result<(), Broken> {
        if size > TABLE_BYTES {
            return Err(Broken);
        }
        self.version += 1;
        self.bytes_max = size;
        self.evict(0);
        Ok(())
    }

    fn evict(&mut self, room: usize) {
        while self.bytes + room > self.bytes_max {
            let Some((name, value)) = self.entries.pop_back() else { break };
            self.bytes -= name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

/// An integer with an `bits`-bit prefix, §5.1; anything beyond 2^28 is an attack.
fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Broken> {
    let mask = (1usize << bits) - 1;
    let (&first, mut rest) = block.split_first().ok_or(Broken)?;
    let mut value = first as usize & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first().ok_or(Broken)?;
            rest = after;
            value += (byte as usize & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(Broken);
            }
        }
    }
    *block = rest;
    Ok(value)
}

fn string(block: &mut &[u8]) -> Result<Box<[u8]>, Broken> {
    let huffman = block.first().ok_or(Broken)? & 0x80 != 0;
    let length = integer(block, 7)?;
    if length > block.len() {
        return Err(Broken);
    }
    let (raw, rest) = block.split_at(length);
    *block = rest;
    if huffman { unhuffman(raw).map(Vec::into_boxed_slice) } else { Ok(raw.into()) }
}

/// Lengths in bits of the codes of the 256 bytes and EOS (RFC 7541 Appendix B). The code is
/// canonical: within a length, codes ascend with the symbol, so lengths say everything.
const HUFFMAN_BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const EOS: u16 = 256;

struct Huffman {
    symbols: Vec<u16>,      // ordered by (length, symbol), that is by code
    first_code: [u32; 31],  // per length: its smallest code ...
    first_index: [u32; 31], // ... where its symbols begin ...
    count: [u32; 31],       // ... and how many there are
}

fn huffman() -> &'static Huffman {
    static TABLE: OnceLock<Huffman> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut symbols: Vec<u16> = (0..=EOS).collect();
        symbols.sort_by_key(|&s| (HUFFMAN_BITS[s as usize], s));
        let mut count = [0u32; 31];
        for bits in HUFFMAN_BITS {
            count[bits as usize] += 1;
        }
        let (mut first_code, mut first_index) = ([0u32; 31], [0u32; 31]);
        for bits in 1..31 {
            first_code[bits] = (first_code[bits - 1] + count[bits - 1]) << 1;
            first_index[bits] = first_index[bits - 1] + count[bits - 1];
        }
        Huffman { symbols, first_code, first_index, count }
    })
}

fn unhuffman(raw: &[u8]) -> Result<Vec<u8>, Broken> {
    let table = huffman();
    let mut text = Vec::with_capacity(raw.len() * 8 / 5 + 1);
    let (mut code, mut bits) = (0u32, 0usize);
    for &byte in raw {
        for shift in (0..8).rev() {
            code = code << 1 | (byte >> shift & 1) as u32;
            bits += 1;
            if bits > 30 {
                return Err(Broken);
            }
            let offset = code.wrapping_sub(table.first_code[bits]);
            if code >= table.first_code[bits] && offset < table.count[bits] {
                let symbol = table.symbols[(table.first_index[bits] + offset) as usize];
                if symbol == EOS {
                    return Err(Broken);
                }
                text.push(symbol as u8);
                (code, bits) = (0, 0);
            }
        }
    }
    // The rest must be padding: fewer than eight bits, all ones (§5.2).
    if bits > 7 || code != (1 << bits) - 1 { Err(Broken) } else { Ok(text) }
}

/// Most bytes the encoder puts into its table; it stays below every usual table size.
const REMEMBERED_BYTES_MAX: usize = 2048;

#[derive(Default)]
pub struct Encoder {
    entries: Vec<(String, String)>, // newest last, never evicted
    bytes: usize,
    table_forbidden: bool,
    announce_empty: bool,
}

impl Encoder {
    /// The peer's SETTINGS_HEADER_TABLE_SIZE: if small, do without a table from now on.
    pub fn set_table_bytes(&mut self, size: u32) {
        if (size as usize) < TABLE_BYTES && !self.table_forbidden {
            self.table_forbidden = true;
            self.announce_empty = true;
            self.entries.clear();
            self.bytes = 0;
        }
    }

    /// Call before the first field of every block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if self.announce_empty {
            self.announce_empty = false;
            out.push(0x20);
        }
    }

    /// A field that is not worth remembering.
    pub fn literal(&self, out: &mut Vec<u8>, name: &str, value: &str) {
        match static_index(name, value) {
            (index, true) => put_integer(out, 0x80, 7, index),
            (index, false) => {
                put_integer(out, 0x00, 4, index);
                if index == 0 {
                    put_string(out, name);
                }
                put_bytes(out, &latin1_bytes(value));
            }
        }
    }

    /// A field that writing leaves no trace of here: it is known already. False: it is not.
    pub fn known(&self, out: &mut Vec<u8>, name: &str, value: &str) -> bool {
        let found = self.entries.iter().rposition(|e| e.0 == name && e.1 == value);
        let index = match (found, static_index(name, value)) {
            (Some(position), _) => STATIC.len() + self.entries.len() - position,
            (None, (index, true)) => index,
            (None, _) => return false,
        };
        put_integer(out, 0x80, 7, index);
        !self.announce_empty
    }

    /// A field that will be sent again: one byte from the second time on.
    pub fn remembered(&mut self, out: &mut Vec<u8>, name: &str, value: &str) {
        let found = self.entries.iter().rposition(|e| e.0 == name && e.1 == value);
        if let Some(position) = found {
            put_integer(out, 0x80, 7, STATIC.len() + self.entries.len() - position);
            return;
        }
        let (index, exact) = static_index(name, value);
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        if exact || self.table_forbidden || self.bytes + size > REMEMBERED_BYTES_MAX {
            return self.literal(out, name, value);
        }
        put_integer(out, 0x40, 6, index);
        if index == 0 {
            put_string(out, name);
        }
        put_bytes(out, &latin1_bytes(value));
        self.bytes += size;
        self.entries.push((name.to_owned(), value.to_owned()));
    }
}

/// Index of the static entry, and whether the value fits too; (0, false) if the name is unknown.
fn static_index(name: &str, value: &str) -> (usize, bool) {
    let mut of_name = 0;
    for (position, entry) in STATIC.iter().enumerate() {
        if entry.0 == name {
            if entry.1 == value {
                return (position + 1, true);
            }
            if of_name == 0 {
                of_name = position + 1;
            }
        }
    }
    (of_name, false)
}

fn put_integer(out: &mut Vec<u8>, flags: u8, bits: u32, value: usize) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        return out.push(flags | value as u8);
    }
    out.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_integer(out, 0, 7, bytes.len());
    out.extend_from_slice(bytes);
}

/// A header's text as the bytes it was read from: Latin-1. What Latin-1 lacks becomes "?".
pub fn latin1_bytes(text: &str) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return Cow::Borrowed(text.as_bytes());
    }
    text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect()
}

/// RFC 7541 Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Broken> {
        let mut fields = Fields::default();
        decoder.decode(block, 1 << 20, &mut fields)?;
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        Ok(fields.iter().map(|(n, v)| (text(n), text(v))).collect())
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pairs = digits.chunks(2).map(|p| std::str::from_utf8(p).unwrap());
        pairs.map(|p| u8::from_str_radix(p, 16).unwrap()).collect()
    }

    /// RFC 7541 C.4: three requests on one connection, with Huffman codes and the dynamic table.
    #[test]
    fn decodes_the_examples_of_the_rfc() {
        let mut decoder = Decoder::default();
        let first = decoded(&mut decoder, &hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"));
        assert_eq!(first.unwrap()[3], (":authority".into(), "www.example.com".into()));
        let second = decoded(&mut decoder, &hex("8286 84be 5886 a8eb 1064 9cbf")).unwrap();
        assert_eq!(second[4], ("cache-control".into(), "no-cache".into()));
        let block = hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf");
        let third = decoded(&mut decoder, &block).unwrap();
        assert_eq!(third[4], ("custom-key".into(), "custom-value".into()));
        assert_eq!(decoder.bytes, 164);
    }

    /// The lengths make a complete prefix code, so no bit string is ambiguous.
    #[test]
    fn huffman_code_is_complete() {
        let sum: u64 = HUFFMAN_BITS.iter().map(|&bits| 1u64 << (30 - bits)).sum();
        assert_eq!(sum, 1 << 30);
    }

    #[test]
    fn encoder_and_decoder_agree() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for round in 0..3 {
            let mut block = Vec::new();
            encoder.begin(&mut block);
            encoder.remembered(&mut block, ":status", "200");
            encoder.remembered(&mut block, "content-type", "application/grpc");
            encoder.literal(&mut block, "x-long", &"v".repeat(300));
            encoder.remembered(&mut block, "grpc-status", "0");
            let fields = decoded(&mut decoder, &block).unwrap();
            assert_eq!(fields[1], ("content-type".into(), "application/grpc".into()));
            assert_eq!(fields[2].1.len(), 300);
            assert_eq!(fields[3], ("grpc-status".into(), "0".into()));
            if round > 0 {
                assert_eq!(block.len(), 3 + 8 + 3 + 300);
            }
        }
        encoder.set_table_bytes(0);
        let mut block = Vec::new();
        encoder.begin(&mut block);
        encoder.remembered(&mut block, "grpc-status", "0");
        assert_eq!(block[0], 0x20);
        assert_eq!(decoded(&mut decoder, &block).unwrap()[0].1, "0");
    }

    #[test]
    fn writes_what_is_known_and_nothing_else() {
        let mut encoder = Encoder::default();
        let mut block = Vec::new();
        assert!(encoder.known(&mut block, ":status", "200"));
        assert!(!encoder.known(&mut block, "grpc-status", "0"));
        encoder.remembered(&mut Vec::new(), "grpc-status", "0");
        encoder.remembered(&mut Vec::new(), "a", "b");
        let (mut known, mut remembered) = (Vec::new(), Vec::new());
        assert!(encoder.known(&mut known, "grpc-status", "0"));
        encoder.remembered(&mut remembered, "grpc-status", "0");
        assert_eq!(known, remembered);
        encoder.set_table_bytes(0); // must be announced in the next block
        assert!(!encoder.known(&mut block, ":status", "200"));
    }

    #[test]
    fn header_text_is_latin1() {
        assert_eq!(*latin1_bytes("caf\u{e9} \u{20ac}"), *b"caf\xe9 ?");
        let (mut encoder, mut block) = (Encoder::default(), Vec::new());
        encoder.literal(&mut block, "x", "\u{ff}");
        encoder.remembered(&mut block, "y", "\u{80}");
        let mut fields = Fields::default();
        Decoder::default().decode(&block, 100, &mut fields).unwrap();
        assert_eq!(fields.get(b"x"), Some(&b"\xff"[..]));
        assert_eq!(fields.get(b"y"), Some(&b"\x80"[..]));
    }

    #[test]
    fn refuses_what_would_break_the_table() {
        let bad: [&[u8]; 6] = [
            &[0x80],                               // index 0
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], // a huge index
            &[0xbe],                               // an entry that is not there
            &[0x82, 0x20],                         // a size update after a field
            &[0x3f, 0xe2, 0x1f],                   // a table larger than announced
            &[0x40, 0x81, 0xff],                   // padding of eight bits
        ];
        for block in bad {
            assert_eq!(decoded(&mut Decoder::default(), block), Err(Broken), "{block:x?}");
        }
    }

    #[test]
    fn limits_what_is_kept_but_keeps_the_table_in_step() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let mut block = Vec::new();
        encoder.literal(&mut block, "big", &"x".repeat(1000));
        encoder.remembered(&mut block, "a", "b");
        let mut fields = Fields::default();
        decoder.decode(&block, 100, &mut fields).unwrap();
        assert!(fields.truncated);
        assert_eq!(decoder.entries.len(), 1);
    }
}
