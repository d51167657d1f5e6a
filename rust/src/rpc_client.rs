//! The client's side of one HTTP/2 connection: gRPC calls of a channel.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::calls::Owner;
use crate::channel::Channel;
use crate::conn::{Ctx, Next};
use crate::core::{Core, count};
use crate::grpc::{self, Assembler, Message, Status};
use crate::h2::{self, Connection, Input, Role};
use crate::hpack::Fields;
use crate::http;
use crate::inbox::{Event, Headers, lock};
use crate::outbound::Command;

type Outcome = Result<Vec<u8>, (u32, String, Headers)>;

/// Where a thread waits for the answer of its unary call.
#[derive(Default)]
pub struct Waiter {
    outcome: Mutex<Option<Outcome>>,
    arrived: Condvar,
}

impl Waiter {
    pub fn wait(&self, slice: Duration) -> Option<Outcome> {
        let outcome = lock(&self.outcome);
        let (mut outcome, _) = self
            .arrived
            .wait_timeout_while(outcome, slice, |outcome| outcome.is_none())
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        outcome.take()
    }

    fn set(&self, result: Outcome) {
        let mut outcome = lock(&self.outcome);
        if outcome.is_none() {
            *outcome = Some(result);
        }
        self.arrived.notify_one();
    }
}

/// Who hears of the answer. A call that is dropped unanswered still answers its waiter.
pub enum Sink {
    Inbox,
    Waiter(Arc<Waiter>),
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Sink::Waiter(waiter) = self {
            let text = "the channel is closed".to_owned();
            waiter.set(Err((grpc::code::CANCELLED, text, Headers::new())));
        }
    }
}

/// A call that has not been sent yet.
pub struct Start {
    pub call: u64,
    pub path: String,
    pub metadata: Headers,
    /// The one message of a unary call; None: a stream.
    pub message: Option<Vec<u8>>,
    pub deadline: Option<Instant>,
    pub sink: Sink,
}

impl Start {
    pub fn fail(self, core: &Core, code: u32, text: String) {
        core.take_early(self.call);
        finish(core, self.call, &self.sink, Err((code, text, Headers::new())));
    }
}

/// The last event of a call; its id is dead from here on.
fn finish(core: &Core, call: u64, sink: &Sink, outcome: Outcome) {
    core.release(call);
    match sink {
        Sink::Waiter(waiter) => waiter.set(outcome),
        Sink::Inbox => core.push(|batch| match outcome {
            Ok(message) => {
                let message = batch.keep(message);
                Event::Response { call, message, trailers: Box::default() }
            }
            Err((code, text, trailers)) => {
                Event::ResponseEnd { call, code, text, trailers: Box::new(trailers) }
            }
        }),
    }
}

struct Stream {
    call: u64,
    sink: Sink,
    is_unary: bool,
    assembler: Assembler,
    message: Option<Vec<u8>>,
    head_seen: bool,
    gzip: bool, // the server's messages may be compressed
}

pub struct RpcClient {
    h2: Connection<Stream, ()>,
    channel: Rc<Channel>,
    waiting: VecDeque<Start>, // beyond the server's limit of streams
    ready: bool,
    leaving: bool, // GOAWAY seen, or ids used up: no new calls here
    reason: String,
    opened: Instant,
}

impl RpcClient {
    pub fn new(channel: Rc<Channel>, out: &mut Vec<u8>) -> Self {
        RpcClient {
            h2: Connection::new(Role::Client, 0, 1 << 20, out),
            channel,
            waiting: VecDeque::new(),
            ready: false,
            leaving: false,
            reason: "transport is closing".to_owned(),
            opened: Instant::now(),
        }
    }

    pub fn keepalive(&self) -> (Option<Duration>, Duration) {
        let settings = &self.channel.settings;
        let wanted = !self.h2.streams.is_empty() || settings.keepalive_permit_without_stream;
        (settings.keepalive_time.filter(|_| wanted), settings.keepalive_timeout)
    }

    /// Has the server not said a word in time?
    pub fn is_late(&self, now: Instant) -> bool {
        !self.ready && now >= self.opened + self.channel.settings.connect_timeout
    }

    pub fn start(&mut self, ctx: &mut Ctx<'_>, start: Start) {
        if self.h2.streams.len() >= self.h2.peer_streams_max as usize {
            self.waiting.push_back(start);
            return;
        }
        let Start { call, path, metadata, message, deadline, sink } = start;
        let stream = Stream {
            call,
            sink,
            is_unary: message.is_some(),
            assembler: Assembler::default(),
            message: None,
            head_seen: false,
            gzip: false,
        };
        let id = match self.h2.open(stream) {
            Ok(id) => id,
            Err(stream) => {
                self.leave(ctx.core);
                let text = "the connection's stream ids are used up".to_owned();
                let outcome = Err((grpc::code::UNAVAILABLE, text, Headers::new()));
                return finish(ctx.core, call, &stream.sink, outcome);
            }
        };
        let owner = Owner { conn: Rc::clone(ctx.me), stream: id };
        ctx.core.calls.borrow_mut().clients.insert(call, owner);
        self.write_head(ctx, id, &path, &metadata, deadline);
        if let Some(message) = message {
            self.message(ctx, id, &message);
            self.h2.finish(id, None, ctx.out);
        }
        for (command, data) in ctx.core.take_early(call).unwrap_or_default() {
            self.perform(ctx, id, call, command, &data);
        }
    }

    fn write_head(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: u32,
        path: &str,
        metadata: &Headers,
        deadline: Option<Instant>,
    ) {
        let settings = &self.channel.settings;
        let scheme = if self.channel.url.tls { "https" } else { "http" };
        let timeout = deadline.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            grpc::timeout_text((left.as_millis() as u64).max(1))
        });
        self.h2.headers(id, false, ctx.out, |encoder, out| {
            encoder.remembered(out, ":method", "POST");
            encoder.remembered(out, ":scheme", scheme);
            encoder.remembered(out, ":path", path);
            encoder.remembered(out, ":authority", &self.channel.authority);
            encoder.remembered(out, "te", "trailers");
            encoder.remembered(out, "content-type", "application/grpc");
            encoder.remembered(out, "user-agent", &settings.user_agent);
            encoder.remembered(out, "grpc-accept-encoding", "gzip");
            if settings.gzip {
                encoder.remembered(out, "grpc-encoding", "gzip");
            }
            if let Some(timeout) = timeout {
                encoder.literal(out, "grpc-timeout", &timeout);
            }
            for (name, value) in metadata {
                let name = name.to_ascii_lowercase();
                if http::is_clean(&name, value) && !name.starts_with(':') {
                    encoder.remembered(out, &name, value);
                }
            }
        });
    }

    /// One message; its framed size, and whether all of it is in the output.
    fn message(&mut self, ctx: &mut Ctx<'_>, id: u32, data: &[u8]) -> (usize, bool) {
        let packed;
        let gzip = self.channel.settings.gzip;
        let data = if gzip {
            packed = grpc::gzip([data]);
            &packed[..]
        } else {
            data
        };
        let prefix = grpc::prefix(gzip, data.len());
        (prefix.len() + data.len(), self.h2.data(id, &prefix, data, ctx.out))
    }

    pub fn input(&mut self, ctx: &mut Ctx<'_>, rest: &mut &[u8]) -> Next {
        if !rest.is_empty() && !self.ready {
            self.ready = true;
            self.channel.connected();
        }
        loop {
            match self.h2.next(rest, ctx.out) {
                Ok(None) => break,
                Ok(Some(Input::Headers { id, block, end })) => {
                    self.on_headers(ctx, id, &block.fields, end);
                }
                Ok(Some(Input::Data { id, data, end })) => {
                    self.h2.release(id, data.len(), ctx.out);
                    if let Err(status) = self.on_data(ctx.core, id, data) {
                        self.end(ctx, id, status.0, status.1, Headers::new());
                    } else if end {
                        let text = "server closed the stream without sending trailers";
                        self.end(ctx, id, grpc::code::INTERNAL, text.to_owned(), Headers::new());
                    }
                }
                Ok(Some(Input::Reset { app, code })) => self.on_reset(ctx.core, &app, code),
                Ok(Some(Input::Goaway { last_id, code, debug })) => {
                    self.on_goaway(ctx, last_id, code, debug);
                }
                Ok(Some(Input::Ping | Input::Pong)) => {}
                Err(h2::Fatal(code, text)) => {
                    count(&ctx.core.stats().protocol_errors, 1);
                    self.reason = format!("connection error: {text}");
                    self.leave(ctx.core);
                    self.h2.goaway(0, code, text.as_bytes(), ctx.out);
                    return Next::Close;
                }
            }
        }
        self.start_waiting(ctx);
        self.check_done()
    }

    fn check_done(&self) -> Next {
        if self.leaving && self.h2.streams.is_empty() { Next::Close } else { Next::Go }
    }

    fn start_waiting(&mut self, ctx: &mut Ctx<'_>) {
        while self.h2.streams.len() < self.h2.peer_streams_max as usize && !self.leaving {
            let Some(start) = self.waiting.pop_front() else { return };
            self.start(ctx, start);
        }
        if self.leaving {
            for start in std::mem::take(&mut self.waiting) {
                start.fail(ctx.core, grpc::code::UNAVAILABLE, self.reason.clone());
            }
        }
    }

    fn on_headers(&mut self, ctx: &mut Ctx<'_>, id: u32, fields: &Fields, end: bool) {
        let Some(stream) = self.h2.streams.get_mut(&id) else { return };
        let stream = &mut stream.app;
        let status = fields.get(b":status").and_then(http::content_length).unwrap_or(0) as u16;
        if !end && (100..200).contains(&status) {
            return;
        }
        let mut headers = http::headers(fields);
        headers.retain(|header| !header.0.starts_with(':'));
        let grpc_status = fields.get(b"grpc-status");
        if !stream.head_seen && status != 200 && grpc_status.is_none() {
            let text = format!("unexpected HTTP status code received from server: {status}");
            return self.end(ctx, id, grpc::code_of_http(status), text, headers);
        }
        if end {
            let text = grpc::percent_decode(fields.get(b"grpc-message").unwrap_or_default());
            let (code, text) = match grpc_status.map(http::content_length) {
                Some(Some(code)) => (code as u32, text),
                Some(None) => (grpc::code::UNKNOWN, "malformed grpc-status".to_owned()),
                None => (grpc::code::INTERNAL, "no grpc-status in the trailers".to_owned()),
            };
            return self.end(ctx, id, code, text, headers);
        }
        stream.head_seen = true;
        stream.gzip = fields.get(b"grpc-encoding") == Some(b"gzip");
        if !stream.is_unary {
            let call = stream.call;
            let headers = Box::new(headers);
            ctx.core.push(|_| Event::ResponseHead { call, status, headers });
        }
    }

    fn on_data(&mut self, core: &Core, id: u32, mut data: &[u8]) -> Result<(), Status> {
        let Some(stream) = self.h2.streams.get_mut(&id) else { return Ok(()) };
        let stream = &mut stream.app;
        let max = self.channel.settings.recv_max;
        while let Some(message) = stream.assembler.next(&mut data, max)? {
            let plain = match message {
                Message::Borrowed(false, bytes) => bytes.to_vec(),
                Message::Owned(false, bytes) => bytes,
                Message::Borrowed(true, bytes) if stream.gzip => grpc::gunzip(bytes, max)?,
                Message::Owned(true, bytes) if stream.gzip => grpc::gunzip(&bytes, max)?,
                _ => {
                    let text = "grpc: compressed flag set with identity or empty encoding";
                    return Err(Status(grpc::code::INTERNAL, text.to_owned()));
                }
            };
            let call = stream.call;
            if stream.is_unary {
                stream.message = Some(plain);
            } else {
                core.push(|batch| {
                    let message = batch.keep(plain);
                    Event::ResponseMessage { call, message }
                });
            }
        }
        Ok(())
    }

    /// The call is over with this status.
    fn end(&mut self, ctx: &mut Ctx<'_>, id: u32, code: u32, text: String, trailers: Headers) {
        let Some(stream) = self.h2.forget(id, ctx.out) else { return };
        let outcome = match (code, stream.message) {
            (grpc::code::OK, Some(message)) if stream.is_unary => {
                if matches!(stream.sink, Sink::Inbox) && !trailers.is_empty() {
                    let call = stream.call;
                    ctx.core.release(call);
                    ctx.core.push(|batch| {
                        let message = batch.keep(message);
                        Event::Response { call, message, trailers: Box::new(trailers) }
                    });
                    return;
                }
                Ok(message)
            }
            (grpc::code::OK, None) if stream.is_unary => {
                let text = "the response message is missing".to_owned();
                Err((grpc::code::INTERNAL, text, trailers))
            }
            _ => Err((code, text, trailers)),
        };
        finish(ctx.core, stream.call, &stream.sink, outcome);
    }

    fn on_reset(&mut self, core: &Core, stream: &Stream, code: u32) {
        let status = match code {
            h2::code::REFUSED_STREAM => grpc::code::UNAVAILABLE,
            h2::code::CANCEL => grpc::code::CANCELLED,
            h2::code::ENHANCE_YOUR_CALM => grpc::code::RESOURCE_EXHAUSTED,
            _ => grpc::code::INTERNAL,
        };
        let text = format!("stream terminated by RST_STREAM with error code: {code}");
        finish(core, stream.call, &stream.sink, Err((status, text, Headers::new())));
    }

    fn on_goaway(&mut self, ctx: &mut Ctx<'_>, last_id: u32, code: u32, debug: &[u8]) {
        let debug = http::latin1(debug);
        self.reason = match code {
            h2::code::NO_ERROR => "the connection is draining".to_owned(),
            _ => format!("received GOAWAY with error code {code}, debug data: {debug:?}"),
        };
        self.leave(ctx.core);
        let unseen: Vec<u32> = self.h2.streams.keys().copied().filter(|id| *id > last_id).collect();
        for id in unseen {
            self.end(ctx, id, grpc::code::UNAVAILABLE, self.reason.clone(), Headers::new());
        }
    }

    fn leave(&mut self, core: &Core) {
        self.leaving = true;
        self.channel.disconnected(core, None);
    }

    pub fn perform(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: u32,
        call: u64,
        command: Command,
        arena: &[u8],
    ) -> Next {
        match command {
            Command::Send { at, len, .. } => {
                let (framed, all_moved) = self.message(ctx, id, &arena[at..at + len]);
                if all_moved {
                    ctx.core.sent(call, len);
                } else {
                    ctx.core.shared.flows.adjust(call, framed as isize - len as isize);
                }
            }
            Command::Finish { .. } => self.h2.finish(id, None, ctx.out),
            Command::Cancel { .. } | Command::Abort { .. } => {
                if let Some(stream) = self.h2.reset(id, h2::code::CANCEL, ctx.out) {
                    ctx.core.release(stream.call);
                }
                self.start_waiting(ctx);
            }
            // HTTP answers and the server's do not fit here.
            _ => {}
        }
        self.check_done()
    }

    pub fn deadline(&mut self, ctx: &mut Ctx<'_>, id: u32, call: u64) -> Next {
        if let Some(stream) = self.h2.reset(id, h2::code::CANCEL, ctx.out) {
            let text = "context deadline exceeded".to_owned();
            let outcome = Err((grpc::code::DEADLINE_EXCEEDED, text, Headers::new()));
            finish(ctx.core, call, &stream.sink, outcome);
        }
        self.start_waiting(ctx);
        self.check_done()
    }

    /// A call that waits for a free stream was given up.
    pub fn drop_waiting(&mut self, call: u64) -> Option<Start> {
        let at = self.waiting.iter().position(|start| start.call == call)?;
        self.waiting.remove(at)
    }

    pub fn pump(&mut self, ctx: &mut Ctx<'_>) {
        self.h2.pump(ctx.out);
        let mut moved = std::mem::take(&mut self.h2.moved);
        for (id, size) in moved.drain(..) {
            if let Some(stream) = self.h2.streams.get(&id) {
                ctx.core.sent(stream.app.call, size);
            }
        }
        self.h2.moved = moved;
    }

    pub fn ping(&mut self, out: &mut Vec<u8>) {
        self.h2.ping(out);
    }

    /// Why the connection is about to end.
    pub fn failed(&mut self, reason: String) {
        if !self.leaving {
            self.reason = if self.ready {
                format!("error reading from server: {reason}")
            } else {
                format!("connection error: desc = {reason:?}")
            };
        }
    }

    pub fn gone(&mut self, core: &Core) {
        let failure = (!self.ready).then(|| self.reason.clone());
        if !self.leaving {
            self.leaving = true;
            self.channel.disconnected(core, failure);
        }
        for (_, stream) in self.h2.streams.drain().collect::<Vec<_>>() {
            let outcome = Err((grpc::code::UNAVAILABLE, self.reason.clone(), Headers::new()));
            finish(core, stream.app.call, &stream.app.sink, outcome);
        }
        for start in std::mem::take(&mut self.waiting) {
            start.fail(core, grpc::code::UNAVAILABLE, self.reason.clone());
        }
    }

    /// The channel is closed: every call ends with CANCELLED.
    pub fn close(&mut self, ctx: &mut Ctx<'_>) {
        self.leaving = true;
        let ids: Vec<u32> = self.h2.streams.keys().copied().collect();
        for id in ids {
            let text = "the channel is closed".to_owned();
            self.end(ctx, id, grpc::code::CANCELLED, text, Headers::new());
        }
        for start in std::mem::take(&mut self.waiting) {
            start.fail(ctx.core, grpc::code::CANCELLED, "the channel is closed".to_owned());
        }
        self.h2.goaway(0, h2::code::NO_ERROR, b"", ctx.out);
    }
}
