//! The client's side of one HTTP/1.1 connection: one request at a time.

use std::rc::Rc;
use std::time::Instant;

use crate::calls::Owner;
use crate::channel::Channel;
use crate::chunked::{self, Piece};
use crate::conn::{Ctx, Next};
use crate::core::Core;
use crate::grpc::code;
use crate::h1::STREAMED_BYTES_MAX;
use crate::hpack::latin1_bytes;
use crate::http;
use crate::inbox::{Event, Headers};
use crate::outbound::Command;

const HEADERS_MAX: usize = 256;
const HEAD_BYTES_MAX: usize = 1 << 20;

/// A request that has not been sent yet.
pub struct Request {
    pub call: u64,
    pub verb: String,
    pub target: String,
    pub headers: Headers,
    /// None: the body is streamed.
    pub body: Option<Vec<u8>>,
    pub deadline: Option<Instant>,
}

impl Request {
    pub fn fail(&self, core: &Core, code: u32, text: String) {
        core.take_early(self.call);
        end(core, self.call, code, text, Headers::new());
    }
}

fn end(core: &Core, call: u64, code: u32, text: String, trailers: Headers) {
    core.release(call);
    let trailers = Box::new(trailers);
    core.push(|_| Event::ResponseEnd { call, code, text, trailers });
}

enum Reading {
    Idle,
    Head,
    Length(u64),
    Chunked(chunked::Decoder),
    UntilClose,
}

pub struct HttpClient {
    channel: Rc<Channel>,
    reading: Reading,
    call: u64, // 0: idle, or given up
    is_head: bool,
    sends_chunked: bool,
    body_done: bool, // our request is complete
    keep_alive: bool,
    unconsumed: usize,
    queued: usize,
    reason: String,
}

impl HttpClient {
    pub fn new(channel: Rc<Channel>) -> Self {
        HttpClient {
            channel,
            reading: Reading::Idle,
            call: 0,
            is_head: false,
            sends_chunked: false,
            body_done: true,
            keep_alive: true,
            unconsumed: 0,
            queued: 0,
            reason: "connection closed".to_owned(),
        }
    }

    pub fn wants_more(&self) -> bool {
        self.unconsumed < STREAMED_BYTES_MAX
    }

    pub fn start(&mut self, ctx: &mut Ctx<'_>, request: Request) {
        let Request { call, verb, target, headers, body, .. } = request;
        self.call = call;
        self.reading = Reading::Head;
        self.is_head = verb == "HEAD";
        self.keep_alive = true;
        self.unconsumed = 0;
        self.queued = 0;
        let owner = Owner { conn: Rc::clone(ctx.me), stream: 0 };
        ctx.core.calls.borrow_mut().clients.insert(call, owner);
        let has = |name: &str| headers.iter().any(|h| h.0.eq_ignore_ascii_case(name));
        let mut head = format!("{verb} {target} HTTP/1.1\r\n");
        if !has("host") {
            head += &format!("Host: {}\r\n", self.channel.authority);
        }
        if !has("user-agent") {
            head += &format!("User-Agent: {}\r\n", self.channel.settings.user_agent);
        }
        for (name, value) in &headers {
            if http::is_clean(name, value) {
                head += &format!("{name}: {value}\r\n");
            }
        }
        self.body_done = body.is_some();
        self.sends_chunked = body.is_none() && !has("content-length");
        if self.sends_chunked {
            head += "Transfer-Encoding: chunked\r\n";
        }
        let body = body.unwrap_or_default();
        let needs_length = !body.is_empty() || !matches!(verb.as_str(), "GET" | "HEAD" | "DELETE");
        if self.body_done && needs_length && !has("content-length") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        ctx.out.extend_from_slice(&latin1_bytes(&head));
        ctx.out.extend_from_slice(&body);
        for (command, data) in ctx.core.take_early(call).unwrap_or_default() {
            self.perform(ctx, call, command, &data);
        }
    }

    pub fn input(&mut self, ctx: &mut Ctx<'_>, rest: &mut &[u8]) -> Next {
        let was_idle = self.is_idle();
        let next = self.understand(ctx, rest);
        self.park(ctx, was_idle, next)
    }

    /// A connection that has become idle is kept for the next request, if it is needed.
    fn park(&mut self, ctx: &mut Ctx<'_>, was_idle: bool, next: Next) -> Next {
        if next == Next::Go && !was_idle && self.is_idle() && !self.channel.park(ctx.me) {
            return Next::Close;
        }
        next
    }

    fn understand(&mut self, ctx: &mut Ctx<'_>, rest: &mut &[u8]) -> Next {
        loop {
            let before = rest.len();
            let next = match &mut self.reading {
                Reading::Idle if rest.is_empty() => return Next::Go,
                Reading::Idle => return Next::Close, // an answer to nothing
                Reading::Head => self.read_head(ctx, rest),
                _ => self.read_body(ctx, rest),
            };
            match next {
                Ok(Next::Go) if rest.len() < before => {}
                Ok(next) => return next,
                Err(text) => {
                    self.finish(ctx.core, code::INTERNAL, text.to_owned(), Headers::new());
                    return Next::Close;
                }
            }
        }
    }

    fn read_head(&mut self, ctx: &mut Ctx<'_>, rest: &mut &[u8]) -> Result<Next, &'static str> {
        if rest.is_empty() {
            return Ok(Next::Go);
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(rest) {
            Ok(httparse::Status::Complete(used)) => {
                *rest = &rest[used..];
                self.on_head(ctx.core, &response)
            }
            Ok(httparse::Status::Partial) if rest.len() <= HEAD_BYTES_MAX => Ok(Next::Go),
            Ok(_) => Err("the response head is too long"),
            Err(_) => Err("malformed HTTP response"),
        }
    }

    fn on_head(
        &mut self,
        core: &Core,
        response: &httparse::Response<'_, '_>,
    ) -> Result<Next, &'static str> {
        let status = response.code.unwrap_or(0);
        if (100..200).contains(&status) {
            return if status == 101 { Err("unexpected upgrade") } else { Ok(Next::Go) };
        }
        let text = |h: &httparse::Header<'_>| (h.name.to_ascii_lowercase(), http::latin1(h.value));
        let headers: Headers = response.headers.iter().map(text).collect();
        let value = |name: &str| headers.iter().find(|h| h.0 == name).map(|h| h.1.as_str());
        let connection = value("connection").unwrap_or_default().to_ascii_lowercase();
        self.keep_alive = match response.version {
            Some(1) => !connection.contains("close"),
            _ => connection.contains("keep-alive"),
        };
        let chunked = value("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        let length = value("content-length").map(|v| http::content_length(v.as_bytes()));
        self.reading = if self.is_head || !http::may_have_body(status) {
            Reading::Length(0)
        } else if chunked {
            Reading::Chunked(chunked::Decoder::default())
        } else {
            match length {
                Some(Some(length)) => Reading::Length(length),
                Some(None) => return Err("malformed content-length"),
                None => Reading::UntilClose,
            }
        };
        let call = self.call;
        if call != 0 {
            core.push(|_| Event::ResponseHead { call, status, headers: Box::new(headers) });
        }
        if matches!(self.reading, Reading::Length(0)) {
            return Ok(self.complete(core, Headers::new()));
        }
        Ok(Next::Go)
    }

    fn read_body(&mut self, ctx: &mut Ctx<'_>, rest: &mut &[u8]) -> Result<Next, &'static str> {
        let room = STREAMED_BYTES_MAX.saturating_sub(self.unconsumed);
        let piece = match &mut self.reading {
            Reading::Length(left) => {
                let size = (*left).min(rest.len() as u64).min(room as u64) as usize;
                let (data, after) = rest.split_at(size);
                *rest = after;
                *left -= size as u64;
                let ended = *left == 0;
                self.chunk(ctx.core, data);
                let done = if ended { self.complete(ctx.core, Headers::new()) } else { Next::Go };
                return Ok(done);
            }
            Reading::UntilClose => {
                let (data, after) = rest.split_at(rest.len().min(room));
                *rest = after;
                Piece::Data(data)
            }
            Reading::Chunked(decoder) => {
                decoder.next(rest, room).map_err(|_| "malformed chunked body")?
            }
            Reading::Idle | Reading::Head => return Ok(Next::Go),
        };
        match piece {
            Piece::Data(data) => self.chunk(ctx.core, data),
            Piece::More => {}
            Piece::End(trailers) => return Ok(self.complete(ctx.core, trailers)),
        }
        Ok(Next::Go)
    }

    fn chunk(&mut self, core: &Core, data: &[u8]) {
        let call = self.call;
        if data.is_empty() || call == 0 {
            return;
        }
        self.unconsumed += data.len();
        core.push(|batch| {
            let data = batch.store(data);
            Event::ResponseChunk { call, data }
        });
    }

    fn finish(&mut self, core: &Core, code: u32, text: String, trailers: Headers) {
        let call = std::mem::take(&mut self.call);
        if call != 0 {
            end(core, call, code, text, trailers);
        }
    }

    /// The response is complete; keep the connection if both sides are through with it.
    fn complete(&mut self, core: &Core, trailers: Headers) -> Next {
        self.reading = Reading::Idle;
        self.unconsumed = 0;
        self.finish(core, code::OK, String::new(), trailers);
        // An answer before the whole request was sent: the rest would have no reader.
        if self.keep_alive && self.body_done { Next::Go } else { Next::Close }
    }

    fn is_idle(&self) -> bool {
        matches!(self.reading, Reading::Idle) && self.keep_alive && self.body_done
    }

    pub fn channel(&self) -> &Rc<Channel> {
        &self.channel
    }

    /// The server has closed its half.
    pub fn on_end(&mut self, core: &Core) {
        if matches!(self.reading, Reading::UntilClose) {
            self.keep_alive = false;
            self.complete(core, Headers::new());
        }
    }

    pub fn perform(
        &mut self,
        ctx: &mut Ctx<'_>,
        call: u64,
        command: Command,
        arena: &[u8],
    ) -> Next {
        if call != self.call {
            return Next::Go;
        }
        match command {
            Command::Send { at, len, .. } if !self.body_done => {
                self.queued += len;
                if len > 0 && self.sends_chunked {
                    ctx.out.extend_from_slice(format!("{len:x}\r\n").as_bytes());
                }
                ctx.out.extend_from_slice(&arena[at..at + len]);
                if len > 0 && self.sends_chunked {
                    ctx.out.extend_from_slice(b"\r\n");
                }
            }
            Command::Finish { .. } if !self.body_done => {
                self.body_done = true;
                if self.sends_chunked {
                    ctx.out.extend_from_slice(b"0\r\n\r\n");
                }
            }
            Command::Consume { size, .. } => {
                self.unconsumed = self.unconsumed.saturating_sub(size);
            }
            Command::Cancel { .. } | Command::Abort { .. } => {
                ctx.core.release(std::mem::take(&mut self.call));
                self.keep_alive = false;
                return Next::Close;
            }
            _ => {}
        }
        Next::Go
    }

    pub fn deadline(&mut self, ctx: &mut Ctx<'_>, call: u64) -> Next {
        if call != self.call {
            return Next::Go;
        }
        let text = "context deadline exceeded".to_owned();
        self.finish(ctx.core, code::DEADLINE_EXCEEDED, text, Headers::new());
        self.keep_alive = false;
        Next::Close
    }

    pub fn on_sent(&mut self, core: &Core, unsent: usize) {
        if self.queued > unsent {
            let left = self.queued - unsent;
            self.queued = unsent;
            core.sent(self.call, left);
        }
    }

    pub fn failed(&mut self, reason: String) {
        self.reason = reason;
    }

    pub fn gone(&mut self, core: &Core) {
        self.finish(core, code::UNAVAILABLE, self.reason.clone(), Headers::new());
    }

    pub fn close(&mut self, core: &Core) {
        self.finish(core, code::CANCELLED, "the channel is closed".to_owned(), Headers::new());
    }
}
