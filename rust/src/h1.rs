//! The server's side of one HTTP/1.1 connection: one request after the other, as events.
//!
//! A following request (pipelined) is not looked at before the answer is complete.

use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::calls::Owner;
use crate::chunked::{self, Piece};
use crate::conn::{Ctx, ListenerRules, Next};
use crate::core::{Core, count};
use crate::grpc::code::CANCELLED;
use crate::http;
use crate::inbox::{Event, Headers, HttpHead, SharedHeaders};
use crate::outbound::Command;
use crate::peer::PeerInfo;

const HEADERS_MAX: usize = 256;
/// Bytes of a streamed body that Python has not consumed yet.
pub const STREAMED_BYTES_MAX: usize = 1 << 20;

/// Longer header lines are not kept.
const FIELDS_BYTES_MAX: usize = 1 << 10;

/// What the header lines of a request say; those of a connection's next request are mostly equal.
struct Fields {
    lines: Vec<u8>,
    is_http11: bool,
    headers: Arc<SharedHeaders>,
    keep_alive: bool,
    length: Option<u64>, // None: chunked
    continues: bool,
}

impl Fields {
    /// Err: the status to refuse the request with.
    fn of(request: &httparse::Request<'_, '_>, lines: &[u8]) -> Result<Self, u16> {
        let is_http11 = request.version == Some(1);
        let name = |name: &str| name.to_ascii_lowercase();
        let headers = request.headers.iter();
        let headers: Headers = headers.map(|h| (name(h.name), http::latin1(h.value))).collect();
        let length = length_of(&headers, is_http11)?;
        let hosts = headers.iter().filter(|header| header.0 == "host").count();
        if hosts > 1 || (hosts == 0 && is_http11) {
            return Err(400);
        }
        let has = |name, word| list_of(&headers, name).iter().any(|found| found == word);
        let keep_alive = match is_http11 {
            true => !has("connection", "close"),
            false => has("connection", "keep-alive"),
        };
        let continues = has("expect", "100-continue");
        let (lines, headers) = (lines.to_owned(), SharedHeaders::new(headers));
        Ok(Fields { lines, is_http11, headers, keep_alive, length, continues })
    }
}

/// How the body is framed (RFC 9112 §6), None: chunked. Err: the status to refuse it with.
fn length_of(headers: &Headers, is_http11: bool) -> Result<Option<u64>, u16> {
    let codings = list_of(headers, "transfer-encoding");
    let mut lengths = headers.iter().filter(|header| header.0 == "content-length");
    let length = lengths.next();
    if !codings.is_empty() {
        // Both, or anything but plain chunked, is how requests are smuggled.
        let fine = is_http11 && length.is_none() && codings == ["chunked"];
        return if fine { Ok(None) } else { Err(400) };
    }
    match length {
        None => Ok(Some(0)),
        Some(first) if lengths.any(|other| other.1 != first.1) => Err(400),
        Some((_, value)) => http::content_length(value.as_bytes()).map(Some).ok_or(400),
    }
}

enum Reading {
    Head,
    Length(u64),
    Chunked(chunked::Decoder),
    Done,
}

enum Answer {
    None,
    /// Head written; `chunked` frames follow until the end.
    Begun {
        chunked: bool,
    },
}

pub struct Server {
    listener: Rc<ListenerRules>,
    peer: Arc<PeerInfo>,
    reading: Reading,
    answer: Answer,
    fields: Option<Fields>,      // of the last request
    call: u64,                   // 0: no request is being served
    head: Option<Box<HttpHead>>, // until the event is out
    body: Vec<u8>,
    partial: usize,
    unconsumed: usize,
    queued: usize, // bytes of the call in the output that `Flow` still counts
    is_head: bool,
    is_http11: bool,
    streaming: bool,
    keep_alive: bool,
    head_begun: bool,
}

impl Server {
    pub fn new(listener: Rc<ListenerRules>, peer: Arc<PeerInfo>) -> Self {
        Server {
            listener,
            peer,
            reading: Reading::Head,
            answer: Answer::None,
            fields: None,
            call: 0,
            head: None,
            body: Vec::new(),
            partial: 0,
            unconsumed: 0,
            queued: 0,
            is_head: false,
            is_http11: true,
            streaming: false,
            keep_alive: true,
            head_begun: false,
        }
    }

    /// Is a request being served?
    pub fn is_waiting(&self) -> bool {
        self.call != 0
    }

    /// May more than a little be read ahead?
    pub fn wants_more(&self) -> bool {
        match self.reading {
            Reading::Head => self.call == 0,
            Reading::Done => false,
            _ => !self.streaming || self.unconsumed < STREAMED_BYTES_MAX,
        }
    }

    /// In the middle of a request head or of a body that we wait for?
    pub fn is_late(&self) -> bool {
        match self.reading {
            Reading::Head => self.head_begun,
            Reading::Done => false,
            _ => !self.streaming,
        }
    }

    pub fn input(&mut self, ctx: &mut Ctx<'_>, rest: &mut &[u8]) -> Next {
        loop {
            let before = rest.len();
            let next = match &mut self.reading {
                Reading::Done => return Next::Go,
                Reading::Head if self.call != 0 => return Next::Go,
                Reading::Head => match self.read_head(ctx, rest) {
                    Some(next) => next,
                    None => return Next::Go,
                },
                Reading::Length(_) | Reading::Chunked(_) => self.read_body(ctx, rest),
            };
            let waits = matches!(self.reading, Reading::Length(_) | Reading::Chunked(_));
            if next == Next::Close || (waits && rest.len() == before) {
                return next;
            }
        }
    }

    /// None: the head is not complete yet.
    fn read_head(&mut self, ctx: &mut Ctx<'_>, rest: &mut &[u8]) -> Option<Next> {
        while let [b'\r' | b'\n', after @ ..] = rest {
            *rest = after; // RFC 9112 §2.2
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(rest);
        self.head_begun = !rest.is_empty();
        match parsed {
            Ok(httparse::Status::Complete(used)) if used <= ctx.core.rules.header_max => {
                self.head_begun = false;
                let (head, after) = rest.split_at(used);
                *rest = after;
                let line = head.iter().position(|&byte| byte == b'\n').unwrap_or_default();
                Some(self.on_head(ctx, &request, &head[line..]))
            }
            Ok(httparse::Status::Partial) if rest.len() <= ctx.core.rules.header_max => None,
            Ok(_) | Err(httparse::Error::TooManyHeaders) => Some(self.refuse(ctx, 431)),
            Err(_) => Some(self.refuse(ctx, 400)),
        }
    }

    /// `lines`: the header lines as they came.
    fn on_head(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &httparse::Request<'_, '_>,
        lines: &[u8],
    ) -> Next {
        let is_http11 = request.version == Some(1);
        let verb = request.method.unwrap_or_default().to_owned();
        let target = request.path.unwrap_or_default().to_owned();
        (self.is_http11, self.is_head) = (is_http11, verb == "HEAD");
        let same = |last: &Fields| last.is_http11 == is_http11 && last.lines == lines;
        if !self.fields.as_ref().is_some_and(same) {
            match Fields::of(request, lines) {
                Ok(fields) => self.fields = Some(fields),
                Err(status) => return self.refuse(ctx, status),
            }
        }
        let Some(fields) = &self.fields else { return Next::Go };
        let (continues, headers) = (fields.continues, Arc::clone(&fields.headers));
        self.keep_alive = fields.keep_alive;
        self.reading = match fields.length {
            Some(length) => Reading::Length(length),
            None => Reading::Chunked(Default::default()),
        };
        if lines.len() > FIELDS_BYTES_MAX {
            self.fields = None;
        }
        if !self.listener.http {
            return self.refuse(ctx, 415);
        }
        if ctx.core.draining.get().is_some() {
            return self.refuse(ctx, 503);
        }
        self.streaming = self.listener.streaming.iter().any(|p| target.starts_with(p.as_str()));
        if let (Reading::Length(length), false) = (&self.reading, self.streaming)
            && *length > ctx.core.rules.http_body_max as u64
        {
            return self.refuse(ctx, 413);
        }
        let (listener, peer) = (self.listener.id, Arc::clone(&self.peer));
        self.head = Some(Box::new(HttpHead { listener, verb, target, headers, peer }));
        self.begin(ctx, continues)
    }

    fn begin(&mut self, ctx: &mut Ctx<'_>, continues: bool) -> Next {
        let owner = Owner { conn: Rc::clone(ctx.me), stream: 0 };
        let allocated = ctx.core.calls.borrow_mut().allocate(owner);
        let stats = ctx.core.stats();
        let Some(call) = allocated else {
            count(&stats.calls_refused, 1);
            return self.refuse(ctx, 503);
        };
        count(&stats.calls_started, 1);
        stats.calls.store(ctx.core.calls.borrow().open() as u64, Relaxed);
        self.call = call;
        self.answer = Answer::None;
        self.unconsumed = 0;
        self.queued = 0;
        let has_body = !matches!(self.reading, Reading::Length(0) | Reading::Done);
        if continues && has_body && self.is_http11 {
            ctx.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if self.streaming
            && let Some(head) = self.head.take()
        {
            ctx.core.push(|_| Event::HttpOpen { call, head });
        }
        if matches!(self.reading, Reading::Length(0)) {
            self.request_complete(ctx.core, Headers::new());
        }
        Next::Go
    }

    fn read_body(&mut self, ctx: &mut Ctx<'_>, rest: &mut &[u8]) -> Next {
        let room = if self.streaming {
            STREAMED_BYTES_MAX.saturating_sub(self.unconsumed)
        } else {
            usize::MAX
        };
        let piece = match &mut self.reading {
            Reading::Length(left) => {
                let size = (*left).min(rest.len() as u64).min(room as u64) as usize;
                let (data, after) = rest.split_at(size);
                *rest = after;
                *left -= size as u64;
                let ended = *left == 0;
                let next = self.body_data(ctx, data);
                if ended && next == Next::Go {
                    self.request_complete(ctx.core, Headers::new());
                }
                return next;
            }
            Reading::Chunked(decoder) => decoder.next(rest, room),
            Reading::Head | Reading::Done => return Next::Go,
        };
        match piece {
            Ok(Piece::Data(data)) => self.body_data(ctx, data),
            Ok(Piece::More) => Next::Go,
            Ok(Piece::End(trailers)) => {
                self.request_complete(ctx.core, trailers);
                Next::Go
            }
            Err(chunked::Bad) => self.refuse(ctx, 400),
        }
    }

    fn body_data(&mut self, ctx: &mut Ctx<'_>, data: &[u8]) -> Next {
        let call = self.call;
        if data.is_empty() || call == 0 {
            return Next::Go;
        }
        if self.streaming {
            self.unconsumed += data.len();
            ctx.core.push(|batch| {
                let data = batch.store(data);
                Event::HttpChunk { call, data }
            });
            return Next::Go;
        }
        if self.body.len() + data.len() > ctx.core.rules.http_body_max {
            return self.refuse(ctx, 413);
        }
        self.body.extend_from_slice(data);
        if !self.account(ctx.core) {
            return self.refuse(ctx, 413);
        }
        Next::Go
    }

    fn account(&mut self, core: &Core) -> bool {
        let before = std::mem::replace(&mut self.partial, self.body.len());
        core.partial(before, self.body.len())
    }

    fn request_complete(&mut self, core: &Core, trailers: Headers) {
        self.reading = Reading::Done;
        let call = self.call;
        if call == 0 {
            return;
        }
        if self.streaming {
            let trailers = Box::new(trailers);
            return core.push(|_| Event::HttpEnd { call, trailers });
        }
        let body = std::mem::take(&mut self.body);
        self.account(core);
        if let Some(head) = self.head.take() {
            core.push(|batch| {
                let body = batch.keep(body);
                Event::Http { call, head, body }
            });
        }
    }

    /// An answer of our own; the connection closes, since we no longer know where we are.
    fn refuse(&mut self, ctx: &mut Ctx<'_>, status: u16) -> Next {
        self.give_up(ctx.core);
        self.keep_alive = false;
        if matches!(self.answer, Answer::None) {
            let text = format!("{status} {}", reason(status));
            let lines = b"Content-Type: text/plain; charset=utf-8\r\n";
            self.write_head(ctx.out, status, lines, Some(text.len()));
            ctx.out.extend_from_slice(text.as_bytes());
        }
        count(&ctx.core.stats().protocol_errors, 1);
        Next::Close
    }

    /// The call will not be answered: tell Python if it knows of it.
    fn give_up(&mut self, core: &Core) {
        let call = std::mem::take(&mut self.call);
        self.body = Vec::new();
        self.account(core);
        if call == 0 {
            return;
        }
        if self.head.take().is_some() {
            core.release(call);
        } else {
            core.cancelled(call, CANCELLED);
        }
    }

    // Answers ---------------------------------------------------------------------------------

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
            Command::HttpReply { status, at, head, len, .. } => {
                let (lines, body) = arena[at..at + head + len].split_at(head);
                let sends_body = !self.is_head && http::may_have_body(status);
                let length = http::may_have_body(status).then_some(body.len());
                self.write_head(ctx.out, status, lines, length);
                if sends_body {
                    ctx.out.extend_from_slice(body);
                }
                self.answered(ctx.core)
            }
            Command::HttpStart { status, headers, .. } => {
                if let Answer::None = self.answer {
                    let chunked = self.is_http11
                        && http::may_have_body(status)
                        && !headers.iter().any(|h| h.0.eq_ignore_ascii_case("content-length"));
                    self.answer = Answer::Begun { chunked };
                    let mut lines = Vec::new();
                    http::write_lines(&mut lines, &headers);
                    self.write_head(ctx.out, status, &lines, None);
                }
                Next::Go
            }
            Command::Send { at, len, .. } => {
                self.send(ctx, &arena[at..at + len]);
                Next::Go
            }
            Command::SendPieces { pieces, .. } => {
                for piece in pieces {
                    self.send(ctx, (*piece).as_ref());
                }
                Next::Go
            }
            Command::Finish { .. } => {
                if let (Answer::Begun { chunked: true }, false) = (&self.answer, self.is_head) {
                    ctx.out.extend_from_slice(b"0\r\n\r\n");
                }
                self.answered(ctx.core)
            }
            Command::Consume { size, .. } => {
                self.unconsumed = self.unconsumed.saturating_sub(size);
                Next::Go
            }
            Command::Abort { .. } | Command::Cancel { .. } => {
                self.keep_alive = false;
                self.answered(ctx.core);
                Next::Close
            }
            // gRPC answers do not fit here.
            Command::Reply { .. }
            | Command::ReplyPieces { .. }
            | Command::Fail { .. }
            | Command::Resume
            | Command::Run(_) => Next::Go,
        }
    }

    fn send(&mut self, ctx: &mut Ctx<'_>, data: &[u8]) {
        let Answer::Begun { chunked } = self.answer else { return };
        self.queued += data.len();
        if data.is_empty() || self.is_head {
            return;
        }
        if chunked {
            ctx.out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        }
        ctx.out.extend_from_slice(data);
        if chunked {
            ctx.out.extend_from_slice(b"\r\n");
        }
    }

    fn answered(&mut self, core: &Core) -> Next {
        let call = std::mem::take(&mut self.call);
        core.release(call);
        self.body = Vec::new();
        self.account(core);
        let all_read = matches!(self.reading, Reading::Done);
        if !self.keep_alive || !all_read {
            return Next::Close;
        }
        self.reading = Reading::Head;
        self.answer = Answer::None;
        Next::Go
    }

    fn write_head(&mut self, out: &mut Vec<u8>, status: u16, lines: &[u8], length: Option<usize>) {
        let (mut has_date, mut has_length, mut has_connection) = (false, false, false);
        for (name, value) in http::fields_of(lines) {
            match name.len() {
                4 => has_date |= name.eq_ignore_ascii_case(b"date"),
                14 => has_length |= name.eq_ignore_ascii_case(b"content-length"),
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    has_connection = true;
                    self.keep_alive &= !value.eq_ignore_ascii_case(b"close");
                }
                _ => {}
            }
        }
        let chunked = matches!(self.answer, Answer::Begun { chunked: true });
        let until_close = matches!(self.answer, Answer::Begun { chunked: false })
            && !has_length
            && http::may_have_body(status);
        if until_close || !matches!(self.reading, Reading::Done) {
            self.keep_alive = false;
        }
        // Writing to a Vec never fails.
        let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason(status));
        out.extend_from_slice(lines);
        if !has_date {
            let _ = write!(out, "Date: {}\r\n", http::date());
        }
        if let Some(length) = length.filter(|_| !has_length) {
            let _ = write!(out, "Content-Length: {length}\r\n");
        }
        if chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if !has_connection {
            out.extend_from_slice(match (self.keep_alive, self.is_http11) {
                (false, _) => b"Connection: close\r\n",
                (true, false) => b"Connection: keep-alive\r\n",
                (true, true) => b"",
            });
        }
        out.extend_from_slice(b"\r\n");
    }

    pub fn on_sent(&mut self, core: &Core, unsent: usize) {
        if self.queued > 0 && self.queued > unsent {
            let left = self.queued - unsent;
            self.queued = unsent;
            core.sent(self.call, left);
        }
    }

    pub fn drain(&mut self) -> Next {
        self.keep_alive = false;
        if self.call == 0 { Next::Close } else { Next::Go }
    }

    pub fn gone(&mut self, core: &Core) {
        self.give_up(core);
    }
}

/// The comma-separated words of all headers of this name, in lower case.
fn list_of(headers: &Headers, name: &str) -> Vec<String> {
    let values = headers.iter().filter(|header| header.0 == name);
    let words = values.flat_map(|header| header.1.split(','));
    words.map(|word| word.trim().to_ascii_lowercase()).filter(|word| !word.is_empty()).collect()
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}
