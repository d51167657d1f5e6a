//! One HTTP/2 connection (RFC 9113) as a pure state machine, for both ends.
//!
//! Bytes go in through `next`, which returns one event at a time; whatever must be sent is
//! appended to an output buffer of the caller. It owns frames, header compression, windows and
//! stream states; it knows no requests, no gRPC and no sockets. The caller keeps a `T` for each
//! stream, and an `F` that it derived from a block of header fields: equal blocks are decoded once.
//!
//! Why not a library: the caller must see pings (keepalive rules), set GOAWAY's debug data, decide
//! which acknowledgements may wait for the next answer, and spend two microseconds per call, not six.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use crate::hpack::{Decoder, Encoder, Fields};
use crate::queue::{Piece, Queue};

pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const STREAM_WINDOW: u32 = 1 << 20;
pub const CONNECTION_WINDOW: u32 = 4 << 20;
/// While more than this waits for the socket, stream data stays in its stream's queue.
pub const OUTPUT_BYTES_MAX: usize = 256 << 10;
const FRAME_BYTES_MAX: usize = 16_384; // the default, for what we take and what we send
const FRAME_HEAD: usize = 9;
const WINDOW_MAX: i64 = (1 << 31) - 1;
const CACHED_BLOCKS_MAX: usize = 8;
const CACHED_BLOCK_BYTES_MAX: usize = 1024;
const CONTINUATIONS_MAX: u32 = 1024;
const RESET_IDS_REMEMBERED: usize = 64;

pub mod code {
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL: u32 = 1;
    pub const INTERNAL: u32 = 2;
    pub const FLOW_CONTROL: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// A connection error: send GOAWAY with this code and text, then close.
#[derive(Debug, PartialEq, Eq)]
pub struct Fatal(pub u32, pub &'static str);

/// Decoded fields and what the caller made of them.
pub struct Block<F> {
    pub fields: Fields,
    pub derived: OnceCell<F>,
}

pub enum Input<'a, T, F> {
    Headers {
        id: u32,
        block: Rc<Block<F>>,
        end: bool,
    },
    Data {
        id: u32,
        data: &'a [u8],
        end: bool,
    },
    /// The peer (or a stream error of it) ended the stream; it is gone.
    Reset {
        app: T,
        code: u32,
    },
    /// The peer's PING; its acknowledgement is already in the output.
    Ping,
    Pong,
    Goaway {
        last_id: u32,
        code: u32,
        debug: &'a [u8],
    },
}

pub type Trailers = Vec<(&'static str, String)>;

enum End {
    Open,
    Data,
    Trailers(Trailers),
}

pub struct Stream<T> {
    pub app: T,
    recv_window: i64,
    recv_unacked: u32,
    send_window: i64,
    queue: Queue, // data that found no window or no room in the output
    end: End,     // what follows the queue
    remote_closed: bool,
    local_closed: bool,
    in_ready: bool,
}

impl<T> Stream<T> {
    pub fn has_remote_ended(&self) -> bool {
        self.remote_closed
    }

    pub fn queued(&self) -> usize {
        self.queue.len()
    }
}

#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u32 and u64 keys")
    }
    fn write_u32(&mut self, id: u32) {
        self.write_u64(id as u64);
    }
    fn write_u64(&mut self, id: u64) {
        self.0 = (id >> 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20);
    }
}

pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Server,
    Client,
}

/// A block as it was on the wire, and decoded.
type Cached<F> = (Box<[u8]>, Rc<Block<F>>);

/// A header block under way: HEADERS without END_HEADERS.
struct Pending {
    id: u32,
    end: bool,
    bytes: Vec<u8>,
    frames: u32,
}

pub struct Connection<T, F> {
    role: Role,
    pub streams: IdMap<u32, Stream<T>>,
    header_bytes_max: usize,
    streams_max: u32,
    /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS.
    pub peer_streams_max: u32,
    last_peer_id: u32,
    next_id: u32,
    preface_left: usize,
    settings_seen: bool,
    pending: Option<Pending>,
    decoder: Decoder,
    pub encoder: Encoder,
    cache: Vec<Cached<F>>,
    cache_version: u64,
    recv_window: i64,
    recv_unacked: u32,
    send_window: i64,
    peer_window: i64,
    ready: VecDeque<u32>,
    reset_ids: VecDeque<u32>,
    /// What `pump` moved from streams' queues to the output: (id, bytes); the caller empties it.
    pub moved: Vec<(u32, usize)>,
    pub goaway_sent: bool,
    /// HEADERS or DATA went into the output since the caller last took this mark.
    pub has_answered: bool,
}

impl<T, F> Connection<T, F> {
    /// Writes the preface (client) and the settings.
    pub fn new(role: Role, streams_max: u32, header_bytes_max: usize, out: &mut Vec<u8>) -> Self {
        if role == Role::Client {
            out.extend_from_slice(PREFACE);
        }
        let settings: &[(u16, u32)] = &match role {
            Role::Server => [(3, streams_max), (4, STREAM_WINDOW), (6, clamp(header_bytes_max))],
            Role::Client => [(2, 0), (4, STREAM_WINDOW), (6, clamp(header_bytes_max))],
        };
        frame(out, kind::SETTINGS, 0, 0, settings.len() * 6);
        for (name, value) in settings {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        window_update(out, 0, CONNECTION_WINDOW - 65_535);
        Connection {
            role,
            streams: IdMap::default(),
            header_bytes_max,
            streams_max,
            peer_streams_max: u32::MAX,
            last_peer_id: 0,
            next_id: 1,
            preface_left: if role == Role::Server { PREFACE.len() } else { 0 },
            settings_seen: false,
            pending: None,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            cache: Vec::new(),
            cache_version: 0,
            recv_window: CONNECTION_WINDOW as i64,
            recv_unacked: 0,
            send_window: 65_535,
            peer_window: 65_535,
            ready: VecDeque::new(),
            reset_ids: VecDeque::new(),
            moved: Vec::new(),
            goaway_sent: false,
            has_answered: false,
        }
    }

    pub fn last_peer_id(&self) -> u32 {
        self.last_peer_id
    }

    /// The next event in `input`, which shrinks by what was understood; None: more bytes needed.
    pub fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Input<'a, T, F>>, Fatal> {
        if self.preface_left > 0 {
            let count = self.preface_left.min(input.len());
            let start = PREFACE.len() - self.preface_left;
            if input[..count] != PREFACE[start..start + count] {
                return Err(Fatal(code::PROTOCOL, "bad preface"));
            }
            self.preface_left -= count;
            *input = &input[count..];
        }
        while let Some((&head, rest)) = input.split_first_chunk::<FRAME_HEAD>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
            if length > FRAME_BYTES_MAX {
                return Err(Fatal(code::FRAME_SIZE, "frame too large"));
            }
            self.check_order(kind, flags, id)?;
            if rest.len() < length {
                break;
            }
            let (payload, after) = rest.split_at(length);
            *input = after;
            let event = self.on_frame(kind, flags, id, payload, out)?;
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn check_order(&mut self, kind: u8, flags: u8, id: u32) -> Result<(), Fatal> {
        if !self.settings_seen {
            if kind != kind::SETTINGS || flags & flag::ACK != 0 {
                return Err(Fatal(code::PROTOCOL, "the first frame must be SETTINGS"));
            }
            self.settings_seen = true;
        }
        let continued = self.pending.as_ref().map(|pending| pending.id);
        match (continued, kind) {
            (Some(expected), kind::CONTINUATION) if expected == id => Ok(()),
            (None, kind) if kind != kind::CONTINUATION => Ok(()),
            _ => Err(Fatal(code::PROTOCOL, "CONTINUATION out of place")),
        }
    }

    fn on_frame<'a>(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Input<'a, T, F>>, Fatal> {
        match kind {
            kind::DATA => self.on_data(flags, id, payload, out),
            kind::HEADERS => self.on_headers(flags, id, payload, out),
            kind::CONTINUATION => self.on_continuation(flags, payload, out),
            kind::WINDOW_UPDATE => self.on_window_update(id, payload, out),
            kind::PING => self.on_ping(flags, id, payload, out),
            kind::SETTINGS => self.on_settings(flags, id, payload, out).map(|()| None),
            kind::RST_STREAM => self.on_reset(id, payload),
            kind::GOAWAY => on_goaway(id, payload).map(Some),
            kind::PRIORITY => self.on_priority(id, payload, out),
            kind::PUSH_PROMISE => Err(Fatal(code::PROTOCOL, "PUSH_PROMISE is not allowed")),
            _ => Ok(None),
        }
    }

    fn on_data<'a>(
        &mut self,
        flags: u8,
        id: u32,
        payload: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Input<'a, T, F>>, Fatal> {
        if id == 0 || self.is_idle(id) {
            return Err(Fatal(code::PROTOCOL, "DATA on an idle stream"));
        }
        let size = payload.len() as u32;
        self.recv_window -= size as i64;
        if self.recv_window < 0 {
            return Err(Fatal(code::FLOW_CONTROL, "connection window exceeded"));
        }
        self.recv_unacked += size;
        if self.recv_unacked >= CONNECTION_WINDOW / 2 {
            window_update(out, 0, self.recv_unacked);
            self.recv_window += self.recv_unacked as i64;
            self.recv_unacked = 0;
        }
        let data = unpadded(flags, payload)?;
        let end = flags & flag::END_STREAM != 0;
        let Some(stream) = self.streams.get_mut(&id) else {
            if !self.reset_ids.contains(&id) {
                reset_frame(out, id, code::STREAM_CLOSED);
                self.remember_reset(id);
            }
            return Ok(None);
        };
        if stream.remote_closed {
            return Ok(self.stream_error(id, code::STREAM_CLOSED, out));
        }
        stream.recv_window -= size as i64;
        if stream.recv_window < 0 {
            return Ok(self.stream_error(id, code::FLOW_CONTROL, out));
        }
        // Padding is nobody's to consume.
        stream.recv_unacked += size - data.len() as u32;
        stream.remote_closed = end;
        if data.is_empty() && !end {
            return Ok(None);
        }
        Ok(Some(Input::Data { id, data, end }))
    }

    fn on_headers<'a>(
        &mut self,
        flags: u8,
        id: u32,
        payload: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Input<'a, T, F>>, Fatal> {
        if id == 0 {
            return Err(Fatal(code::PROTOCOL, "HEADERS on stream 0"));
        }
        let mut block = unpadded(flags, payload)?;
        let mut depends_on_itself = false;
        if flags & flag::PRIORITY != 0 {
            let Some((priority, rest)) = block.split_first_chunk::<5>() else {
                return Err(Fatal(code::FRAME_SIZE, "HEADERS too short"));
            };
            let parent = u32::from_be_bytes([priority[0], priority[1], priority[2], priority[3]]);
            depends_on_itself = parent & 0x7fff_ffff == id;
            block = rest;
        }
        let end = flags & flag::END_STREAM != 0;
        if flags & flag::END_HEADERS == 0 {
            self.pending = Some(Pending { id, end, bytes: block.to_vec(), frames: 0 });
            return Ok(None);
        }
        let event = self.on_block(id, end, block, out)?;
        if depends_on_itself {
            return Ok(self.stream_error(id, code::PROTOCOL, out));
        }
        Ok(event)
    }

    fn on_continuation<'a>(
        &mut self,
        flags: u8,
        payload: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Input<'a, T, F>>, Fatal> {
        let Some(pending) = self.pending.as_mut() else {
            return Err(Fatal(code::PROTOCOL, "CONTINUATION out of place"));
        };
        pending.frames += 1;
        pending.bytes.extend_from_slice(payload);
        if pending.bytes.len() > self.header_bytes_max || pending.frames > CONTINUATIONS_MAX {
            return Err(Fatal(code::ENHANCE_YOUR_CALM, "header block too long"));
        }
        if flags & flag::END_HEADERS == 0 {
            return Ok(None);
        }
        let Some(Pending { id, end, bytes, .. }) = self.pending.take() else { return Ok(None) };
        self.on_block(id, end, &bytes, out)
    }

    /// A complete header block: a new stream, or the trailers (or first headers) of a known one.
    fn on_block<'a>(
        &mut self,
        id: u32,
        end: bool,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Input<'a, T, F>>, Fatal> {
        let block = self.decode(bytes)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            if stream.remote_closed {
                return Ok(self.stream_error(id, code::STREAM_CLOSED, out));
            }
            if self.role == Role::Server && !end {
                return Ok(self.stream_error(id, code::PROTOCOL, out)); // trailers must end it
            }
            stream.remote_closed = end;
            return Ok(Some(Input::Headers { id, block, end }));
        }
        if self.reset_ids.contains(&id) {
            return Ok(None);
        }
        if self.role == Role::Client || id.is_multiple_of(2) {
            return Err(Fatal(code::PROTOCOL, "HEADERS on a stream nobody opened"));
        }
        if id <= self.last_peer_id {
            return Err(Fatal(code::STREAM_CLOSED, "HEADERS on a closed stream"));
        }
        self.last_peer_id = id;
        if self.streams.len() >= self.streams_max as usize {
            self.remember_reset(id);
            reset_frame(out, id, code::REFUSED_STREAM);
            return Ok(None);
        }
        Ok(Some(Input::Headers { id, block, end }))
    }

    fn decode(&mut self, bytes: &[u8]) -> Result<Rc<Block<F>>, Fatal> {
        if self.cache_version == self.decoder.version
            && let Some(hit) = self.cache.iter().find(|entry| *entry.0 == *bytes)
        {
            return Ok(hit.1.clone());
        }
        let before = self.decoder.version;
        let mut fields = Fields::default();
        self.decoder
            .decode(bytes, self.header_bytes_max, &mut fields)
            .map_err(|_| Fatal(code::COMPRESSION, "header compression"))?;
        let block = Rc::new(Block { fields, derived: OnceCell::new() });
        if self.decoder.version == before && bytes.len() <= CACHED_BLOCK_BYTES_MAX {
            if self.cache_version != before || self.cache.len() >= CACHED_BLOCKS_MAX {
                self.cache.clear();
                self.cache_version = before;
            }
            self.cache.push((bytes.into(), block.clone()));
        }
        Ok(block)
    }

    fn on_window_update<'a>(
        &mut self,
        id: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Input<'a, T, F>>, Fatal> {
        let &[a, b, c, d] = payload else {
            return Err(Fatal(code::FRAME_SIZE, "WINDOW_UPDATE of a wrong size"));
        };
        let increment = (u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff) as i64;
        if id == 0 {
            self.send_window += increment;
            if increment == 0 || self.send_window > WINDOW_MAX {
                let code = if increment == 0 { code::PROTOCOL } else { code::FLOW_CONTROL };
                return Err(Fatal(code, "bad window increment"));
            }
            return Ok(None);
        }
        if self.is_idle(id) {
            return Err(Fatal(code::PROTOCOL, "WINDOW_UPDATE on an idle stream"));
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(None) };
        stream.send_window += increment;
        if increment == 0 {
            return Ok(self.stream_error(id, code::PROTOCOL, out));
        }
        if stream.send_window > WINDOW_MAX {
            return Ok(self.stream_error(id, code::FLOW_CONTROL, out));
        }
        self.mark_ready(id);
        Ok(None)
    }

    fn on_ping<'a>(
        &mut self,
        flags: u8,
        id: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Input<'a, T, F>>, Fatal> {
        if id != 0 {
            return Err(Fatal(code::PROTOCOL, "PING on a stream"));
        }
        if payload.len() != 8 {
            return Err(Fatal(code::FRAME_SIZE, "PING of a wrong size"));
        }
        if flags & flag::ACK != 0 {
            return Ok(Some(Input::Pong));
        }
        frame(out, kind::PING, flag::ACK, 0, 8);
        out.extend_from_slice(payload);
        Ok(Some(Input::Ping))
    }

    fn on_settings(
        &mut self,
        flags: u8,
        id: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Fatal> {
        if id != 0 {
            return Err(Fatal(code::PROTOCOL, "SETTINGS on a stream"));
        }
        let ack = flags & flag::ACK != 0;
        if !payload.len().is_multiple_of(6) || (ack && !payload.is_empty()) {
            return Err(Fatal(code::FRAME_SIZE, "SETTINGS of a wrong size"));
        }
        if ack {
            return Ok(());
        }
        for setting in payload.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                1 => self.encoder.set_table_bytes(value),
                2 if value > 1 => return Err(Fatal(code::PROTOCOL, "bad ENABLE_PUSH")),
                3 => self.peer_streams_max = value,
                4 => self.set_peer_window(value)?,
                5 if !(16_384..=16_777_215).contains(&value) => {
                    return Err(Fatal(code::PROTOCOL, "bad MAX_FRAME_SIZE"));
                }
                // Larger frames would be allowed, but let one stream hold up the others.
                _ => {}
            }
        }
        frame(out, kind::SETTINGS, flag::ACK, 0, 0);
        Ok(())
    }

    fn set_peer_window(&mut self, value: u32) -> Result<(), Fatal> {
        if value as i64 > WINDOW_MAX {
            return Err(Fatal(code::FLOW_CONTROL, "initial window too large"));
        }
        let change = value as i64 - self.peer_window;
        self.peer_window = value as i64;
        for (id, stream) in &mut self.streams {
            stream.send_window += change;
            if stream.send_window > WINDOW_MAX {
                return Err(Fatal(code::FLOW_CONTROL, "initial window too large"));
            }
            if !stream.in_ready && stream.has_something_to_send() {
                stream.in_ready = true;
                self.ready.push_back(*id);
            }
        }
        Ok(())
    }

    fn on_reset<'a>(&mut self, id: u32, payload: &[u8]) -> Result<Option<Input<'a, T, F>>, Fatal> {
        let &[a, b, c, d] = payload else {
            return Err(Fatal(code::FRAME_SIZE, "RST_STREAM of a wrong size"));
        };
        if id == 0 || self.is_idle(id) {
            return Err(Fatal(code::PROTOCOL, "RST_STREAM on an idle stream"));
        }
        let code = u32::from_be_bytes([a, b, c, d]);
        Ok(self.streams.remove(&id).map(|stream| Input::Reset { app: stream.app, code }))
    }

    fn on_priority<'a>(
        &mut self,
        id: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Input<'a, T, F>>, Fatal> {
        if id == 0 {
            return Err(Fatal(code::PROTOCOL, "PRIORITY on stream 0"));
        }
        let &[a, b, c, d, _] = payload else {
            return Ok(self.stream_error(id, code::FRAME_SIZE, out));
        };
        if u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff == id {
            return Ok(self.stream_error(id, code::PROTOCOL, out));
        }
        Ok(None)
    }

    fn is_idle(&self, id: u32) -> bool {
        match (self.role, id % 2) {
            (Role::Server, 1) => id > self.last_peer_id,
            (Role::Client, 1) => id >= self.next_id,
            _ => true,
        }
    }

    fn stream_error<'a>(
        &mut self,
        id: u32,
        code: u32,
        out: &mut Vec<u8>,
    ) -> Option<Input<'a, T, F>> {
        reset_frame(out, id, code);
        self.remember_reset(id);
        self.streams.remove(&id).map(|stream| Input::Reset { app: stream.app, code })
    }

    fn remember_reset(&mut self, id: u32) {
        if self.reset_ids.len() >= RESET_IDS_REMEMBERED {
            self.reset_ids.pop_front();
        }
        self.reset_ids.push_back(id);
    }

    // What the caller does ------------------------------------------------------------------

    /// Keep `app` for the peer's new stream `id`, after its first `Input::Headers`.
    pub fn accept(&mut self, id: u32, app: T, remote_closed: bool) -> &mut Stream<T> {
        let stream = self.new_stream(app, remote_closed);
        match self.streams.entry(id) {
            Entry::Occupied(mut old) => {
                old.insert(stream);
                old.into_mut()
            }
            Entry::Vacant(place) => place.insert(stream),
        }
    }

    /// A stream of ours; Err when the ids are used up and the connection must be replaced.
    pub fn open(&mut self, app: T) -> Result<u32, T> {
        let id = self.next_id;
        if id > 0x7fff_ff00 {
            return Err(app);
        }
        self.next_id += 2;
        let stream = self.new_stream(app, false);
        self.streams.insert(id, stream);
        Ok(id)
    }

    fn new_stream(&self, app: T, remote_closed: bool) -> Stream<T> {
        Stream {
            app,
            recv_window: STREAM_WINDOW as i64,
            recv_unacked: 0,
            send_window: self.peer_window,
            queue: Queue::default(),
            end: End::Open,
            remote_closed,
            local_closed: false,
            in_ready: false,
        }
    }

    /// The caller is done with `size` bytes of `Input::Data`: give the room back to the peer.
    pub fn release(&mut self, id: u32, size: usize, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.recv_unacked += size as u32;
        if stream.recv_unacked >= STREAM_WINDOW / 2 && !stream.remote_closed {
            window_update(out, id, stream.recv_unacked);
            stream.recv_window += stream.recv_unacked as i64;
            stream.recv_unacked = 0;
        }
    }

    /// Write a header block that `encode` fills in. `end`: nothing follows.
    pub fn headers(
        &mut self,
        id: u32,
        end: bool,
        out: &mut Vec<u8>,
        encode: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        self.has_answered = true;
        let start = out.len();
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        frame(out, kind::HEADERS, flags, id, 0);
        self.encoder.begin(out);
        encode(&mut self.encoder, out);
        let length = out.len() - start - FRAME_HEAD;
        if length <= FRAME_BYTES_MAX {
            out[start..start + 3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        } else {
            let block = out.split_off(start + FRAME_HEAD);
            out.truncate(start);
            let mut flags = flags & flag::END_STREAM;
            let mut kind = kind::HEADERS;
            let last = block.len().div_ceil(FRAME_BYTES_MAX) - 1;
            for (number, part) in block.chunks(FRAME_BYTES_MAX).enumerate() {
                let done = if number == last { flag::END_HEADERS } else { 0 };
                frame(out, kind, flags | done, id, part.len());
                out.extend_from_slice(part);
                (kind, flags) = (kind::CONTINUATION, 0);
            }
        }
        if end {
            self.local_end(id, out);
        }
    }

    /// A header block of fields that the encoder knows: nothing changes here. False: it does not.
    pub fn known_headers(
        &self,
        id: u32,
        end: bool,
        fields: &[(&str, &str)],
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        frame(out, kind::HEADERS, flags, id, 0);
        let known = fields.iter().all(|(name, value)| self.encoder.known(out, name, value));
        let length = (out.len() - start - FRAME_HEAD) as u32; // a few bytes per field
        out[start..start + 3].copy_from_slice(&length.to_be_bytes()[1..]);
        known
    }

    /// The longest payload that one DATA frame of the stream may carry now.
    pub fn room(&self, id: u32) -> usize {
        let Some(stream) = self.streams.get(&id).filter(|s| s.queued() == 0) else { return 0 };
        stream.send_window.min(self.send_window).clamp(0, FRAME_BYTES_MAX as i64) as usize
    }

    /// A whole answer with `size` bytes of DATA was written by somebody else.
    pub fn answered(&mut self, id: u32, size: usize) {
        self.has_answered = true;
        self.send_window -= size as i64;
        self.streams.remove(&id);
    }

    /// Send `prefix` and `data` as DATA; what finds no window waits in the stream's queue.
    /// True: all is in the output; otherwise `moved` will tell of it.
    pub fn data(&mut self, id: u32, prefix: &[u8], data: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return true };
        let size = prefix.len() + data.len();
        if stream.queued() == 0
            && size <= FRAME_BYTES_MAX
            && size as i64 <= stream.send_window.min(self.send_window)
            && out.len() < OUTPUT_BYTES_MAX
        {
            stream.send_window -= size as i64;
            self.send_window -= size as i64;
            self.has_answered = true;
            data_frame(out, id, prefix, data);
            return true;
        }
        stream.queue.push(prefix);
        stream.queue.push(data);
        self.mark_ready(id);
        false
    }

    /// Like `data`, for what is too large to be copied at once: all of it waits in the queue.
    pub fn large_data(&mut self, id: u32, prefix: &[u8], pieces: Vec<Piece>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.queue.push(prefix);
        for piece in pieces {
            stream.queue.keep(piece);
        }
        self.mark_ready(id);
    }

    /// Nothing more from us after what is queued; `trailers` None: END_STREAM on data.
    pub fn finish(&mut self, id: u32, trailers: Option<Trailers>, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.queued() > 0 {
            stream.end = trailers.map_or(End::Data, End::Trailers);
            self.mark_ready(id);
            return;
        }
        match trailers {
            Some(trailers) => self.write_trailers(id, &trailers, out),
            None => {
                frame(out, kind::DATA, flag::END_STREAM, id, 0);
                self.local_end(id, out);
            }
        }
    }

    /// Is all data of the stream in the output, so that trailers may be written at once?
    pub fn can_end_now(&self, id: u32) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.queued() == 0)
    }

    fn write_trailers(&mut self, id: u32, trailers: &Trailers, out: &mut Vec<u8>) {
        self.headers(id, true, out, |encoder, out| {
            for (name, value) in trailers {
                encoder.literal(out, name, value);
            }
        });
    }

    /// Our half is closed. A server that answered early tells the client to stop sending.
    fn local_end(&mut self, id: u32, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.local_closed = true;
        if stream.remote_closed {
            self.streams.remove(&id);
        } else if self.role == Role::Server {
            reset_frame(out, id, code::NO_ERROR);
            self.remember_reset(id);
            self.streams.remove(&id);
        }
    }

    /// End the stream without ceremony; returns what the caller kept for it.
    pub fn reset(&mut self, id: u32, code: u32, out: &mut Vec<u8>) -> Option<T> {
        let stream = self.streams.remove(&id)?;
        reset_frame(out, id, code);
        self.remember_reset(id);
        Some(stream.app)
    }

    /// A client has seen the server's end: forget the stream, resetting our half if it is open.
    pub fn forget(&mut self, id: u32, out: &mut Vec<u8>) -> Option<T> {
        let stream = self.streams.remove(&id)?;
        if !stream.local_closed || !stream.remote_closed {
            reset_frame(out, id, code::CANCEL);
            self.remember_reset(id);
        }
        Some(stream.app)
    }

    pub fn ping(&mut self, out: &mut Vec<u8>) {
        frame(out, kind::PING, 0, 0, 8);
        out.extend_from_slice(b"corumkal");
    }

    pub fn goaway(&mut self, last_id: u32, code: u32, debug: &[u8], out: &mut Vec<u8>) {
        frame(out, kind::GOAWAY, 0, 0, 8 + debug.len());
        out.extend_from_slice(&last_id.to_be_bytes());
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(debug);
        self.goaway_sent = true;
    }

    fn mark_ready(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.in_ready
            && stream.has_something_to_send()
        {
            stream.in_ready = true;
            self.ready.push_back(id);
        }
    }

    /// Move queued data to the output as windows and room allow, one frame per stream and turn.
    pub fn pump(&mut self, out: &mut Vec<u8>) {
        let mut blocked = 0; // streams in a row that could not send: after a full round, stop
        while out.len() < OUTPUT_BYTES_MAX && blocked < self.ready.len() {
            let Some(id) = self.ready.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let room = stream.send_window.min(self.send_window).max(0) as usize;
            let size = stream.queued().min(room).min(FRAME_BYTES_MAX);
            if size == 0 && stream.queued() > 0 {
                if stream.send_window > 0 {
                    self.ready.push_back(id); // only the connection's window is shut
                    blocked += 1;
                } else {
                    stream.in_ready = false; // its own WINDOW_UPDATE brings it back
                }
                continue;
            }
            blocked = 0;
            self.send_queued(id, size, out);
        }
    }

    fn send_queued(&mut self, id: u32, size: usize, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if size > 0 {
            self.has_answered = true;
            let last = stream.queued() == size && matches!(stream.end, End::Data);
            frame(out, kind::DATA, if last { flag::END_STREAM } else { 0 }, id, size);
            stream.queue.pop_into(size, out);
            stream.send_window -= size as i64;
            self.send_window -= size as i64;
            self.moved.push((id, size));
            if last {
                return self.local_end(id, out);
            }
        }
        if stream.queued() > 0 {
            return self.ready.push_back(id);
        }
        stream.queue = Queue::default();
        stream.in_ready = false;
        match std::mem::replace(&mut stream.end, End::Open) {
            End::Open => {}
            End::Data => {
                frame(out, kind::DATA, flag::END_STREAM, id, 0);
                self.local_end(id, out);
            }
            End::Trailers(trailers) => self.write_trailers(id, &trailers, out),
        }
    }
}

impl<T> Stream<T> {
    fn has_something_to_send(&self) -> bool {
        self.queued() > 0 && self.send_window > 0
    }
}

fn clamp(value: usize) -> u32 {
    value.min(u32::MAX as usize) as u32
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, length: usize) {
    let length = (length as u32).to_be_bytes();
    let id = id.to_be_bytes();
    out.extend_from_slice(&[
        length[1], length[2], length[3], kind, flags, id[0], id[1], id[2], id[3],
    ]);
}

/// One DATA frame that does not end its stream.
pub fn data_frame(out: &mut Vec<u8>, id: u32, prefix: &[u8], data: &[u8]) {
    frame(out, kind::DATA, 0, id, prefix.len() + data.len());
    out.extend_from_slice(prefix);
    out.extend_from_slice(data);
}

fn window_update(out: &mut Vec<u8>, id: u32, increment: u32) {
    frame(out, kind::WINDOW_UPDATE, 0, id, 4);
    out.extend_from_slice(&increment.to_be_bytes());
}

fn reset_frame(out: &mut Vec<u8>, id: u32, code: u32) {
    frame(out, kind::RST_STREAM, 0, id, 4);
    out.extend_from_slice(&code.to_be_bytes());
}

fn unpadded(flags: u8, payload: &[u8]) -> Result<&[u8], Fatal> {
    if flags & flag::PADDED == 0 {
        return Ok(payload);
    }
    let Some((&padding, rest)) = payload.split_first() else {
        return Err(Fatal(code::FRAME_SIZE, "padding missing"));
    };
    let kept = rest.len().checked_sub(padding as usize);
    kept.map(|length| &rest[..length]).ok_or(Fatal(code::PROTOCOL, "too much padding"))
}

fn on_goaway<'a, T, F>(id: u32, payload: &'a [u8]) -> Result<Input<'a, T, F>, Fatal> {
    let Some((head, debug)) = payload.split_first_chunk::<8>() else {
        return Err(Fatal(code::FRAME_SIZE, "GOAWAY too short"));
    };
    if id != 0 {
        return Err(Fatal(code::PROTOCOL, "GOAWAY on a stream"));
    }
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    Ok(Input::Goaway { last_id: word(0) & 0x7fff_ffff, code: word(4), debug })
}
