//! The server's side of one HTTP/2 connection: gRPC calls and plain HTTP requests as events.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pyo3::sync::PyOnceLock;

use crate::calls::Owner;
use crate::conn::{Ctx, ListenerRules, Next};
use crate::core::{Core, count};
use crate::grpc::{self, Assembler, Message, Status};
use crate::h2::{self, Block, Connection, Input, Role};
use crate::hpack::Fields;
use crate::http;
use crate::inbox::{Batch, Event, Headers, HttpHead, Meta, Payload, SharedHeaders};
use crate::outbound::Command;
use crate::peer::PeerInfo;
use crate::queue::Piece;
use crate::settings::{MethodKind, Rules};

/// What a block of request headers asks for.
enum Request {
    Grpc {
        method: u16,
        kind: MethodKind,
        timeout_ns: Option<u64>,
        gzip: bool,
        meta: Arc<Meta>,
    },
    /// A gRPC request that is refused by its headers alone.
    Refused(Status),
    Http {
        verb: String,
        target: String,
        headers: Headers,
        length: Option<u64>,
    },
    /// An answer without a body, e.g. 415.
    Unwelcome(u16),
    Malformed,
}

enum Kind {
    Grpc {
        method: u16,
        kind: MethodKind,
        gzip: bool,
        meta: Arc<Meta>,
        deadline_ns: u64,
    },
    Http {
        is_head: bool,
        streaming: bool,
        length: Option<u64>,
        head: Option<Box<HttpHead>>,
    },
    /// Refused; its data is ignored until it ends.
    Ignored,
}

struct Stream {
    call: u64, // 0: answered or given up
    kind: Kind,
    assembler: Assembler,
    body: Vec<u8>,            // of an HTTP request
    message: Option<Vec<u8>>, // of a unary call whose client has not half-closed yet
    received: u64,
    partial: usize, // bytes accounted for in `Core::partial`
    head_sent: bool,
}

const METAS_MAX: usize = 16;
const PING_STRIKES_MAX: u32 = 2;
/// grpc-go's rule for clients without a call: one ping in two hours.
const IDLE_PING_TIME: Duration = Duration::from_secs(7200);

/// Calls that the client gave up before they were answered (CVE-2023-44487). Each made work for
/// nothing, and what bounds open calls does not bound these.
#[derive(Default)]
struct Resets {
    count: u32,
    since: Option<Instant>, // when `count` was last reduced
}

/// A client may give up so many calls at once: deadlines pass together when a server stalls.
const RESETS_MAX: u32 = 1000;
/// One more is forgiven each time this has passed.
const RESET_FORGIVEN: Duration = Duration::from_millis(10);

impl Resets {
    /// Count one; true: there were too many.
    fn too_many(&mut self, now: Instant) -> bool {
        let since = self.since.get_or_insert(now);
        let steps = now.saturating_duration_since(*since).as_millis() / RESET_FORGIVEN.as_millis();
        let forgiven = u32::try_from(steps).unwrap_or(u32::MAX);
        if forgiven >= self.count {
            (self.count, *since) = (0, now);
        } else {
            self.count -= forgiven;
            *since += RESET_FORGIVEN * forgiven;
        }
        self.count += 1;
        self.count > RESETS_MAX
    }
}

pub struct Server {
    h2: Connection<Stream, Request>,
    listener: Rc<ListenerRules>,
    peer: Arc<PeerInfo>,
    metas: Vec<Arc<Meta>>,
    open: usize, // unanswered calls
    strikes: u32,
    last_ping: Option<Instant>,
    resets: Resets,
    draining: bool,
    /// The output holds nothing but acknowledgements of pings, and an answer will follow.
    pub acks_wait: bool,
}

impl Server {
    pub fn new(ctx: &mut Ctx<'_>, listener: Rc<ListenerRules>, peer: Arc<PeerInfo>) -> Self {
        let rules = &ctx.core.rules;
        let mut h2 = Connection::new(Role::Server, rules.streams_max, rules.header_max, ctx.out);
        let draining = ctx.core.draining.get().is_some();
        if draining {
            h2.goaway(0, h2::code::NO_ERROR, b"", ctx.out);
        }
        let (metas, strikes, last_ping) = (Vec::new(), 0, None);
        Server {
            h2,
            listener,
            peer,
            metas,
            open: 0,
            strikes,
            last_ping,
            resets: Resets::default(),
            draining,
            acks_wait: false,
        }
    }

    pub fn input(&mut self, ctx: &mut Ctx<'_>, rest: &mut &[u8]) -> Next {
        let before = ctx.out.len();
        let mut pings = 0;
        loop {
            match self.h2.next(rest, ctx.out) {
                Ok(None) => break,
                Ok(Some(Input::Headers { id, block, end })) => {
                    self.on_headers(ctx, id, &block, end);
                }
                Ok(Some(Input::Data { id, data, end })) => self.on_data(ctx, id, data, end),
                Ok(Some(Input::Reset { app, .. })) => {
                    let given_up = app.call != 0;
                    self.drop_stream(ctx.core, app);
                    if given_up && self.resets.too_many(Instant::now()) {
                        count(&ctx.core.stats().protocol_errors, 1);
                        let code = h2::code::ENHANCE_YOUR_CALM;
                        self.h2.goaway(self.h2.last_peer_id(), code, b"too_many_resets", ctx.out);
                        return Next::Close;
                    }
                }
                Ok(Some(Input::Ping)) => {
                    pings += 1;
                    if self.too_many_pings(ctx.core) {
                        count(&ctx.core.stats().keepalive_goaways, 1);
                        let code = h2::code::ENHANCE_YOUR_CALM;
                        self.h2.goaway(self.h2.last_peer_id(), code, b"too_many_pings", ctx.out);
                        return Next::Close;
                    }
                }
                Ok(Some(Input::Pong | Input::Goaway { .. })) => {}
                Err(h2::Fatal(code, text)) => {
                    count(&ctx.core.stats().protocol_errors, 1);
                    self.h2.goaway(self.h2.last_peer_id(), code, text.as_bytes(), ctx.out);
                    return Next::Close;
                }
            }
        }
        // Go clients ping after each answer: the acknowledgement rides on the next answer.
        const PING_BYTES: usize = 17;
        let only_acks = ctx.out.len() == before + pings * PING_BYTES;
        let waited = self.acks_wait;
        self.acks_wait = only_acks && self.open > 0 && (before == 0 && pings > 0 || waited);
        if self.acks_wait && !waited {
            ctx.core.flush_later(ctx.me);
        }
        self.check_drained()
    }

    fn check_drained(&self) -> Next {
        if self.draining && self.h2.streams.is_empty() { Next::Close } else { Next::Go }
    }

    // Requests --------------------------------------------------------------------------------

    fn on_headers(&mut self, ctx: &mut Ctx<'_>, id: u32, block: &Block<Request>, end: bool) {
        if self.h2.streams.contains_key(&id) {
            return self.on_end(ctx, id, &block.fields); // trailers
        }
        if self.draining {
            self.h2.accept(id, Stream::new(Kind::Ignored), end);
            self.h2.reset(id, h2::code::REFUSED_STREAM, ctx.out);
            return;
        }
        let rules = Arc::clone(&ctx.core.rules);
        let request = match block.derived.get() {
            Some(request) => request,
            None => {
                let request = self.classify(&rules, ctx.me.id, &block.fields);
                block.derived.get_or_init(|| request)
            }
        };
        match request {
            Request::Grpc { method, kind, timeout_ns, gzip, meta } => {
                let deadline_ns = timeout_ns.map_or(0, |ns| http::monotonic_ns() + ns.min(1 << 62));
                let (method, kind, gzip) = (*method, *kind, *gzip);
                let meta = Arc::clone(meta);
                let stream = Kind::Grpc { method, kind, gzip, meta, deadline_ns };
                self.begin_grpc(ctx, id, stream, *timeout_ns, end);
            }
            Request::Http { verb, target, headers, length } => {
                let (listener, peer) = (self.listener.id, Arc::clone(&self.peer));
                let (verb, target) = (verb.clone(), target.clone());
                let headers = SharedHeaders::new(headers.clone());
                let head = HttpHead { listener, verb, target, headers, peer };
                self.begin_http(ctx, id, head, *length, end);
            }
            Request::Refused(status) => {
                self.h2.accept(id, Stream::new(Kind::Ignored), end);
                self.trailers_only(ctx, id, status.0, &status.1);
            }
            Request::Unwelcome(status) => {
                self.h2.accept(id, Stream::new(Kind::Ignored), end);
                self.refuse_http(ctx, id, *status);
            }
            Request::Malformed => {
                count(&ctx.core.stats().protocol_errors, 1);
                self.h2.accept(id, Stream::new(Kind::Ignored), end);
                self.h2.reset(id, h2::code::PROTOCOL, ctx.out);
            }
        }
    }

    fn begin_grpc(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: u32,
        kind: Kind,
        timeout_ns: Option<u64>,
        end: bool,
    ) {
        let Kind::Grpc { method, kind: shape, ref meta, deadline_ns, .. } = kind else { return };
        let meta = Arc::clone(meta);
        let mut stream = Stream::new(kind);
        let Some(call) = self.allocate(ctx, id) else {
            self.h2.accept(id, Stream::new(Kind::Ignored), end);
            return self.trailers_only(ctx, id, grpc::code::UNAVAILABLE, "too many open calls");
        };
        stream.call = call;
        self.h2.accept(id, stream, end);
        if let Some(ns) = timeout_ns {
            ctx.core.set_deadline(call, ns);
        }
        if !shape.takes_one() {
            ctx.core.push(|_| Event::StreamOpen { call, method, meta, deadline_ns });
        }
        if end {
            self.on_end(ctx, id, &Fields::default());
        }
    }

    fn begin_http(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: u32,
        head: HttpHead,
        length: Option<u64>,
        end: bool,
    ) {
        let streaming = self.listener.streaming.iter().any(|p| head.target.starts_with(p.as_str()));
        let is_head = head.verb == "HEAD";
        let Some(call) = self.allocate(ctx, id) else {
            self.h2.accept(id, Stream::new(Kind::Ignored), end);
            return self.refuse_http(ctx, id, 503);
        };
        let head = Some(Box::new(head));
        let mut stream = Stream::new(Kind::Http { is_head, streaming, length, head });
        stream.call = call;
        if streaming
            && let Kind::Http { head, .. } = &mut stream.kind
            && let Some(head) = head.take()
        {
            ctx.core.push(|_| Event::HttpOpen { call, head });
        }
        self.h2.accept(id, stream, end);
        if end {
            self.on_end(ctx, id, &Fields::default());
        }
    }

    fn allocate(&mut self, ctx: &mut Ctx<'_>, id: u32) -> Option<u64> {
        let owner = Owner { conn: Rc::clone(ctx.me), stream: id };
        let mut calls = ctx.core.calls.borrow_mut();
        let call = calls.allocate(owner);
        let stats = ctx.core.stats();
        if call.is_some() {
            self.open += 1;
            count(&stats.calls_started, 1);
            stats.calls.store(calls.open() as u64, Relaxed);
        } else {
            count(&stats.calls_refused, 1);
        }
        call
    }

    fn on_data(&mut self, ctx: &mut Ctx<'_>, id: u32, data: &[u8], end: bool) {
        let Some(stream) = self.h2.streams.get_mut(&id) else { return };
        let stream = &mut stream.app;
        stream.received += data.len() as u64;
        let rules = &ctx.core.rules;
        let outcome = match &stream.kind {
            Kind::Ignored => Ok(()),
            _ if stream.call == 0 => Ok(()),
            Kind::Grpc { .. } => stream.grpc_data(ctx.core, data, end),
            Kind::Http { streaming: true, .. } => {
                let call = stream.call;
                if !data.is_empty() {
                    ctx.core.push(|batch| {
                        let data = batch.store(data);
                        Event::HttpChunk { call, data }
                    });
                }
                Ok(())
            }
            Kind::Http { .. } => {
                if stream.body.len() + data.len() > rules.http_body_max {
                    self.give_up(ctx.core, id);
                    return self.refuse_http(ctx, id, 413);
                }
                stream.body.extend_from_slice(data);
                stream.account(ctx.core)
            }
        };
        let waits_for_room = matches!(stream.kind, Kind::Http { streaming: true, .. });
        if !waits_for_room || stream.call == 0 {
            self.h2.release(id, data.len(), ctx.out);
        }
        if let Err(status) = outcome {
            return self.refuse_stream(ctx, id, &status);
        }
        if end {
            self.on_end(ctx, id, &Fields::default());
        }
    }

    /// The client has half-closed.
    fn on_end(&mut self, ctx: &mut Ctx<'_>, id: u32, trailers: &Fields) {
        let Some(stream) = self.h2.streams.get_mut(&id) else { return };
        let stream = &mut stream.app;
        let call = stream.call;
        if call == 0 {
            return;
        }
        let outcome = match &mut stream.kind {
            Kind::Grpc { .. } => stream.grpc_end(ctx.core),
            Kind::Http { length, .. } if length.is_some_and(|n| n != stream.received) => {
                self.give_up(ctx.core, id);
                self.h2.reset(id, h2::code::PROTOCOL, ctx.out);
                return;
            }
            Kind::Http { streaming: true, .. } => {
                let trailers = Box::new(http::headers(trailers));
                ctx.core.push(|_| Event::HttpEnd { call, trailers });
                Ok(())
            }
            Kind::Http { head, .. } => {
                let body = std::mem::take(&mut stream.body);
                if let Some(head) = head.take() {
                    ctx.core.push(|batch| {
                        let body = batch.keep(body);
                        Event::Http { call, head, body }
                    });
                }
                stream.account(ctx.core)
            }
            Kind::Ignored => Ok(()),
        };
        if let Err(status) = outcome {
            self.refuse_stream(ctx, id, &status);
        }
    }

    fn refuse_stream(&mut self, ctx: &mut Ctx<'_>, id: u32, status: &Status) {
        let Some(stream) = self.h2.streams.get(&id) else { return };
        let is_http = matches!(stream.app.kind, Kind::Http { .. });
        self.give_up(ctx.core, id);
        if is_http {
            self.refuse_http(ctx, id, 413);
        } else {
            self.end_grpc(ctx, id, status.0, &status.1);
        }
    }

    /// We end a call on our own: Python hears CANCELLED if it knows of it.
    fn give_up(&mut self, core: &Core, id: u32) {
        let Some(stream) = self.h2.streams.get_mut(&id) else { return };
        let call = std::mem::take(&mut stream.app.call);
        if call != 0 {
            self.open -= 1;
            if stream.app.is_known() {
                core.cancelled(call, grpc::code::CANCELLED);
            } else {
                core.release(call);
            }
        }
    }

    fn drop_stream(&mut self, core: &Core, stream: Stream) {
        core.partial(stream.partial, 0);
        if stream.call != 0 {
            self.open -= 1;
            if stream.is_known() {
                core.cancelled(stream.call, grpc::code::CANCELLED);
            } else {
                core.release(stream.call);
            }
        }
    }

    /// grpc-go's rule: pings faster than allowed are strikes, the third ends the connection.
    /// HEADERS or DATA since the last ping excuse it: clients measure bandwidth with pings, once
    /// per round trip for as long as they receive.
    fn too_many_pings(&mut self, core: &Core) -> bool {
        let rules = &core.rules;
        if rules.keepalive_min_time.is_zero() {
            return false;
        }
        let idle = self.h2.streams.is_empty() && !rules.keepalive_permit_without_stream;
        let least = if idle { IDLE_PING_TIME } else { rules.keepalive_min_time };
        let now = Instant::now();
        let last = self.last_ping.replace(now);
        if std::mem::take(&mut self.h2.has_answered) {
            self.strikes = 0;
            return false;
        }
        if last.is_some_and(|last| now < last + least) {
            self.strikes += 1;
        }
        self.strikes > PING_STRIKES_MAX
    }

    // Answers ---------------------------------------------------------------------------------

    pub fn perform(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: u32,
        call: u64,
        command: Command,
        arena: &[u8],
    ) -> Next {
        let live = self.h2.streams.get(&id).is_some_and(|stream| stream.app.call == call);
        if !live {
            return Next::Go;
        }
        match command {
            Command::Reply { at, len, .. } => {
                self.finished(ctx.core, id);
                self.message(ctx, id, &arena[at..at + len]);
                self.end_ok(ctx, id);
            }
            Command::ReplyPieces { pieces, .. } => {
                self.finished(ctx.core, id);
                self.large_message(ctx, id, pieces);
                self.end_ok(ctx, id);
            }
            Command::Fail { code, text, .. } => {
                self.finished(ctx.core, id);
                self.end_grpc(ctx, id, code, &text);
            }
            Command::Send { at, len, .. } => self.send(ctx, id, call, &arena[at..at + len]),
            Command::SendPieces { pieces, .. } => self.send_pieces(ctx, id, call, pieces),
            Command::HttpReply { status, at, head, len, .. } => {
                let (lines, body) = arena[at..at + head + len].split_at(head);
                let text = |(name, value)| (http::latin1(name), http::latin1(value));
                let headers: Headers = http::fields_of(lines).map(text).collect();
                self.http_reply(ctx, id, status, &headers, body);
            }
            Command::HttpStart { status, headers, .. } => {
                self.http_head(ctx, id, status, &headers, None);
            }
            Command::Finish { .. } => {
                self.finished(ctx.core, id);
                self.h2.finish(id, None, ctx.out);
            }
            Command::Abort { .. } | Command::Cancel { .. } => {
                self.finished(ctx.core, id);
                self.drop_local(ctx, id, h2::code::INTERNAL);
            }
            Command::Consume { size, .. } => self.h2.release(id, size, ctx.out),
            Command::Resume | Command::Run(_) => {}
        }
        self.check_drained()
    }

    fn drop_local(&mut self, ctx: &mut Ctx<'_>, id: u32, code: u32) {
        if let Some(stream) = self.h2.reset(id, code, ctx.out) {
            self.drop_stream(ctx.core, stream);
        }
    }

    /// The answer is complete: the id is dead, the stream lives until all is sent.
    fn finished(&mut self, core: &Core, id: u32) {
        if let Some(stream) = self.h2.streams.get_mut(&id) {
            let call = std::mem::take(&mut stream.app.call);
            let partial = std::mem::take(&mut stream.app.partial);
            core.partial(partial, 0);
            self.open -= 1;
            core.release(call);
        }
    }

    /// Status OK after a message.
    fn end_ok(&mut self, ctx: &mut Ctx<'_>, id: u32) {
        if self.h2.can_end_now(id) {
            self.h2.headers(id, true, ctx.out, |encoder, out| {
                encoder.remembered(out, "grpc-status", "0");
            });
        } else {
            let trailers = vec![("grpc-status", "0".to_owned())];
            self.h2.finish(id, Some(trailers), ctx.out);
        }
    }

    /// The frames around the answer to a unary call, for somebody else to write: what comes before
    /// it (appended), what comes after, and how much DATA may be between. None: not this answer.
    pub fn prepare_answer(
        &self,
        id: u32,
        call: u64,
        before: &mut Vec<u8>,
    ) -> Option<(Vec<u8>, usize)> {
        let stream = self.h2.streams.get(&id)?;
        let Kind::Grpc { kind: MethodKind::Unary, gzip: false, .. } = stream.app.kind else {
            return None;
        };
        if stream.app.call != call || !stream.has_remote_ended() {
            return None;
        }
        let head = [(":status", "200"), ("content-type", "application/grpc")];
        let mut after = Vec::new();
        let known = self.h2.known_headers(id, false, &head, before)
            && self.h2.known_headers(id, true, &[("grpc-status", "0")], &mut after);
        known.then(|| (after, self.h2.room(id)))
    }

    /// Somebody else has written the whole answer.
    pub fn answered(&mut self, core: &Core, id: u32, data_bytes: usize) {
        self.acks_wait = false;
        self.finished(core, id);
        self.h2.answered(id, data_bytes);
    }

    fn send(&mut self, ctx: &mut Ctx<'_>, id: u32, call: u64, data: &[u8]) {
        let Some(stream) = self.h2.streams.get(&id) else { return };
        if matches!(stream.app.kind, Kind::Http { is_head: true, .. }) {
            return ctx.core.sent(call, data.len());
        }
        let (framed, all_moved) = match stream.app.kind {
            Kind::Grpc { .. } => self.message(ctx, id, data),
            _ => (data.len(), self.h2.data(id, &[], data, ctx.out)),
        };
        if all_moved {
            ctx.core.sent(call, data.len());
        } else {
            // Count what waits as it waits: framed, perhaps compressed.
            ctx.core.shared.flows.adjust(call, framed as isize - data.len() as isize);
        }
    }

    fn send_pieces(&mut self, ctx: &mut Ctx<'_>, id: u32, call: u64, pieces: Vec<Piece>) {
        let Some(stream) = self.h2.streams.get(&id) else { return };
        let size = size_of(&pieces);
        let framed = match stream.app.kind {
            Kind::Http { is_head: true, .. } => return ctx.core.sent(call, size),
            Kind::Grpc { .. } => self.large_message(ctx, id, pieces),
            _ => {
                self.h2.large_data(id, &[], pieces);
                size
            }
        };
        ctx.core.shared.flows.adjust(call, framed as isize - size as isize);
    }

    /// Response headers, unless they are out; whether messages are compressed.
    fn begin_answer(&mut self, ctx: &mut Ctx<'_>, id: u32) -> Option<bool> {
        let stream = self.h2.streams.get_mut(&id)?;
        let gzip = matches!(stream.app.kind, Kind::Grpc { gzip: true, .. });
        if !std::mem::replace(&mut stream.app.head_sent, true) {
            self.h2.headers(id, false, ctx.out, |encoder, out| {
                encoder.remembered(out, ":status", "200");
                encoder.remembered(out, "content-type", "application/grpc");
                if gzip {
                    encoder.remembered(out, "grpc-encoding", "gzip");
                }
            });
        }
        Some(gzip)
    }

    /// One gRPC message, after the response headers; its framed size, and whether all has moved.
    fn message(&mut self, ctx: &mut Ctx<'_>, id: u32, data: &[u8]) -> (usize, bool) {
        let Some(gzip) = self.begin_answer(ctx, id) else { return (data.len(), true) };
        let packed;
        let data = if gzip {
            packed = grpc::gzip([data]);
            &packed[..]
        } else {
            data
        };
        let prefix = grpc::prefix(gzip, data.len());
        (prefix.len() + data.len(), self.h2.data(id, &prefix, data, ctx.out))
    }

    /// The same for a message in pieces, which waits in the stream's queue; its framed size.
    fn large_message(&mut self, ctx: &mut Ctx<'_>, id: u32, mut pieces: Vec<Piece>) -> usize {
        let Some(gzip) = self.begin_answer(ctx, id) else { return 0 };
        if gzip {
            let packed = grpc::gzip(pieces.iter().map(|piece| (**piece).as_ref()));
            pieces = vec![Box::new(packed)];
        }
        let size = size_of(&pieces);
        let prefix = grpc::prefix(gzip, size);
        self.h2.large_data(id, &prefix, pieces);
        prefix.len() + size
    }

    fn end_grpc(&mut self, ctx: &mut Ctx<'_>, id: u32, code: u32, text: &str) {
        let Some(stream) = self.h2.streams.get(&id) else { return };
        if !stream.app.head_sent {
            if code != grpc::code::OK {
                return self.trailers_only(ctx, id, code, text);
            }
            self.h2.headers(id, false, ctx.out, |encoder, out| {
                encoder.remembered(out, ":status", "200");
                encoder.remembered(out, "content-type", "application/grpc");
            });
        }
        let mut trailers = vec![("grpc-status", code.to_string())];
        if !text.is_empty() {
            trailers.push(("grpc-message", grpc::percent_encode(text)));
        }
        self.h2.finish(id, Some(trailers), ctx.out);
    }

    fn trailers_only(&mut self, ctx: &mut Ctx<'_>, id: u32, code: u32, text: &str) {
        self.h2.headers(id, true, ctx.out, |encoder, out| {
            encoder.remembered(out, ":status", "200");
            encoder.remembered(out, "content-type", "application/grpc");
            encoder.literal(out, "grpc-status", &code.to_string());
            if !text.is_empty() {
                encoder.literal(out, "grpc-message", &grpc::percent_encode(text));
            }
        });
    }

    fn http_head(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: u32,
        status: u16,
        headers: &Headers,
        length: Option<usize>,
    ) {
        let Some(stream) = self.h2.streams.get_mut(&id) else { return };
        if std::mem::replace(&mut stream.app.head_sent, true) {
            return;
        }
        let has = |name: &str| headers.iter().any(|h| h.0.eq_ignore_ascii_case(name));
        let date = (!has("date")).then(http::date);
        let length = length.filter(|_| !has("content-length") && http::may_have_body(status));
        self.h2.headers(id, false, ctx.out, |encoder, out| {
            encoder.literal(out, ":status", &status.to_string());
            for (name, value) in headers {
                let name = name.to_ascii_lowercase();
                if !http::is_connection_header(&name) && http::is_clean(&name, value) {
                    encoder.literal(out, &name, value);
                }
            }
            if let Some(length) = length {
                encoder.literal(out, "content-length", &length.to_string());
            }
            if let Some(date) = date {
                encoder.literal(out, "date", &date);
            }
        });
    }

    fn http_reply(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: u32,
        status: u16,
        headers: &Headers,
        body: &[u8],
    ) {
        let Some(stream) = self.h2.streams.get(&id) else { return };
        let is_head = matches!(stream.app.kind, Kind::Http { is_head: true, .. });
        self.finished(ctx.core, id);
        self.http_head(ctx, id, status, headers, Some(body.len()));
        if !is_head && http::may_have_body(status) {
            self.h2.data(id, &[], body, ctx.out);
        }
        self.h2.finish(id, None, ctx.out);
    }

    /// An answer of our own, without a call.
    fn refuse_http(&mut self, ctx: &mut Ctx<'_>, id: u32, status: u16) {
        self.h2.headers(id, true, ctx.out, |encoder, out| {
            encoder.literal(out, ":status", &status.to_string());
            encoder.literal(out, "content-length", "0");
        });
    }

    pub fn deadline(&mut self, ctx: &mut Ctx<'_>, id: u32, call: u64) -> Next {
        let Some(stream) = self.h2.streams.get_mut(&id) else { return Next::Go };
        if stream.app.call != call {
            return Next::Go;
        }
        let known = stream.app.is_known();
        self.finished(ctx.core, id);
        if known {
            let code = grpc::code::DEADLINE_EXCEEDED;
            ctx.core.push(|_| Event::Cancelled { call, code });
        }
        let text = "context deadline exceeded";
        self.end_grpc(ctx, id, grpc::code::DEADLINE_EXCEEDED, text);
        self.check_drained()
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

    pub fn drain(&mut self, ctx: &mut Ctx<'_>) -> Next {
        if !self.draining {
            self.draining = true;
            self.h2.goaway(self.h2.last_peer_id(), h2::code::NO_ERROR, b"graceful_stop", ctx.out);
        }
        self.check_drained()
    }

    pub fn gone(&mut self, core: &Core) {
        for (_, stream) in self.h2.streams.drain().collect::<Vec<_>>() {
            self.drop_stream(core, stream.app);
        }
    }

    // Classification ----------------------------------------------------------------------------

    fn classify(&mut self, rules: &Rules, connection: u64, fields: &Fields) -> Request {
        let Some(pseudo) = Pseudo::of(fields) else { return Request::Malformed };
        if fields.truncated {
            return Request::Unwelcome(431);
        }
        let content_type = fields.get(b"content-type").unwrap_or_default();
        let is_grpc = content_type
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'+' || rest[0] == b';');
        if is_grpc && self.listener.grpc && pseudo.method == b"POST" {
            return self.classify_grpc(rules, connection, &http::latin1(pseudo.path), fields);
        }
        if !self.listener.http {
            return Request::Unwelcome(415);
        }
        let mut headers = http::headers(fields);
        headers.retain(|header| !header.0.starts_with(':'));
        if !headers.iter().any(|header| header.0 == "host") {
            headers.insert(0, ("host".to_owned(), http::latin1(pseudo.authority)));
        }
        let length = fields.get(b"content-length").map(http::content_length);
        if length == Some(None) {
            return Request::Malformed;
        }
        Request::Http {
            verb: http::latin1(pseudo.method),
            target: http::latin1(pseudo.path),
            headers,
            length: length.flatten(),
        }
    }

    fn classify_grpc(
        &mut self,
        rules: &Rules,
        connection: u64,
        path: &str,
        fields: &Fields,
    ) -> Request {
        let Some(&(method, kind)) = rules.methods.get(path) else {
            let known = |service: &str| rules.services.contains(service);
            return Request::Refused(grpc::unknown_path(path, known));
        };
        let gzip = match fields.get(b"grpc-encoding") {
            None | Some(b"identity") => false,
            Some(b"gzip") => true,
            Some(other) => {
                let name = http::latin1(other);
                let text =
                    format!("grpc: Decompressor is not installed for grpc-encoding {name:?}");
                return Request::Refused(Status(grpc::code::UNIMPLEMENTED, text));
            }
        };
        let timeout_ns = match fields.get(b"grpc-timeout") {
            None => None,
            Some(text) => match grpc::timeout_ns(text) {
                Some(ns) => Some(ns),
                None => {
                    let text = format!("malformed grpc-timeout: {:?}", http::latin1(text));
                    return Request::Refused(Status(grpc::code::INTERNAL, text));
                }
            },
        };
        let values = rules.metadata_keys.iter();
        let values = values.map(|key| fields.get(key.as_bytes()).map(http::latin1)).collect();
        Request::Grpc { method, kind, timeout_ns, gzip, meta: self.meta(values, connection) }
    }

    /// The same object for equal values, so that Python can compare by identity.
    fn meta(&mut self, values: Vec<Option<String>>, connection: u64) -> Arc<Meta> {
        if let Some(meta) = self.metas.iter().find(|meta| meta.values == values) {
            return Arc::clone(meta);
        }
        if self.metas.len() >= METAS_MAX {
            self.metas.remove(0);
        }
        let peer = Arc::clone(&self.peer);
        let meta = Arc::new(Meta { values, connection, peer, tuple: PyOnceLock::new() });
        self.metas.push(Arc::clone(&meta));
        meta
    }
}

/// The pseudo-headers of a well-formed request (RFC 9113 §8.2, §8.3).
#[derive(Default)]
struct Pseudo<'a> {
    method: &'a [u8],
    path: &'a [u8],
    authority: &'a [u8],
}

impl<'a> Pseudo<'a> {
    /// None: the request is malformed.
    fn of(fields: &'a Fields) -> Option<Self> {
        let mut found = Pseudo::default();
        let mut scheme: &[u8] = b"";
        let mut regular = false;
        for (name, value) in fields.iter() {
            if name.first() != Some(&b':') {
                regular = true;
                let bad_te = name == b"te" && value != b"trailers";
                if bad_te || !http::is_h2_field(name, value) {
                    return None;
                }
                continue;
            }
            let place = match name {
                b":method" => &mut found.method,
                b":path" => &mut found.path,
                b":scheme" => &mut scheme,
                b":authority" => &mut found.authority,
                _ => return None,
            };
            if regular || !place.is_empty() || value.is_empty() {
                return None;
            }
            *place = value;
        }
        let complete = !found.method.is_empty() && !found.path.is_empty() && !scheme.is_empty();
        (complete || fields.truncated).then_some(found)
    }
}

impl Stream {
    fn new(kind: Kind) -> Self {
        Stream {
            call: 0,
            kind,
            assembler: Assembler::default(),
            body: Vec::new(),
            message: None,
            received: 0,
            partial: 0,
            head_sent: false,
        }
    }

    /// Has an event told Python of this call?
    fn is_known(&self) -> bool {
        match &self.kind {
            Kind::Grpc { kind, .. } => !kind.takes_one() || self.dispatched(),
            Kind::Http { head, .. } => head.is_none(),
            Kind::Ignored => false,
        }
    }

    /// A whole unary request went into the inbox: its assembler holds nothing more.
    fn dispatched(&self) -> bool {
        self.received == u64::MAX
    }

    /// Keep the count of unfinished bytes up to date.
    fn account(&mut self, core: &Core) -> Result<(), Status> {
        let now =
            self.assembler.kept() + self.body.len() + self.message.as_ref().map_or(0, Vec::len);
        let fits = core.partial(self.partial, now);
        self.partial = now;
        if fits {
            return Ok(());
        }
        let text = "too many unfinished messages".to_owned();
        Err(Status(grpc::code::RESOURCE_EXHAUSTED, text))
    }

    fn grpc_data(&mut self, core: &Core, mut data: &[u8], end: bool) -> Result<(), Status> {
        let Kind::Grpc { kind, gzip, .. } = self.kind else { return Ok(()) };
        let max = core.rules.recv_max;
        while let Some(message) = self.assembler.next(&mut data, max)? {
            let plain = match message {
                Message::Borrowed(false, bytes) if kind.takes_one() && end && data.is_empty() => {
                    if self.message.is_some() {
                        return Err(second_message());
                    }
                    self.dispatch_unary(core, |batch| batch.store(bytes));
                    return Ok(());
                }
                Message::Borrowed(false, bytes) => bytes.to_vec(),
                Message::Owned(false, bytes) => bytes,
                Message::Borrowed(true, bytes) => unpack(gzip, bytes, max)?,
                Message::Owned(true, bytes) => unpack(gzip, &bytes, max)?,
            };
            if kind.takes_one() {
                if self.message.replace(plain).is_some() {
                    return Err(second_message());
                }
                continue;
            }
            let call = self.call;
            core.push(|batch| {
                let message = batch.keep(plain);
                Event::StreamMessage { call, message }
            });
        }
        self.account(core)
    }

    fn grpc_end(&mut self, core: &Core) -> Result<(), Status> {
        let Kind::Grpc { kind, .. } = self.kind else { return Ok(()) };
        if self.dispatched() {
            return Ok(());
        }
        if self.assembler.is_torn() {
            return Err(Status(grpc::code::INTERNAL, "unexpected EOF".to_owned()));
        }
        let call = self.call;
        if !kind.takes_one() {
            core.push(|_| Event::StreamEnd { call });
            return Ok(());
        }
        let Some(message) = self.message.take() else {
            let text = "the request message is missing".to_owned();
            return Err(Status(grpc::code::INTERNAL, text));
        };
        self.account(core)?;
        self.dispatch_unary(core, |batch| batch.keep(message));
        Ok(())
    }

    fn dispatch_unary(&mut self, core: &Core, store: impl FnOnce(&mut Batch) -> Payload) {
        let Kind::Grpc { method, ref meta, deadline_ns, .. } = self.kind else { return };
        let (call, meta) = (self.call, Arc::clone(meta));
        self.received = u64::MAX;
        core.push(|batch| {
            let message = store(batch);
            Event::Unary { call, method, message, meta, deadline_ns }
        });
    }
}

fn size_of(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| (**piece).as_ref().len()).sum()
}

fn second_message() -> Status {
    Status(grpc::code::INTERNAL, "a second message for a call that takes one".to_owned())
}

fn unpack(gzip: bool, bytes: &[u8], max: usize) -> Result<Vec<u8>, Status> {
    if !gzip {
        let text = "grpc: compressed flag set with identity or empty encoding";
        return Err(Status(grpc::code::INTERNAL, text.to_owned()));
    }
    grpc::gunzip(bytes, max)
}
