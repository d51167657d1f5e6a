//! One connection: a socket, the protocol spoken on it, and the task that drives both.
//!
//! The task reads and writes; the dispatcher also writes answers, directly, without waking the
//! task. Both borrow the state for one step and never hold it across another connection's.

use std::cell::{Cell, RefCell, RefMut};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::core::{Core, count};
use crate::h1;
use crate::h2;
use crate::http_client::HttpClient;
use crate::io::{Fill, Io};
use crate::loan::Loan;
use crate::outbound::Command;
use crate::peer::PeerInfo;
use crate::rpc_client::RpcClient;
use crate::server;

/// What a listener decided for its connections.
pub struct ListenerRules {
    pub id: u64,
    pub grpc: bool,
    pub http: bool,
    pub streaming: Vec<String>,
}

/// What a protocol may touch while it handles something.
pub struct Ctx<'a> {
    pub core: &'a Rc<Core>,
    pub me: &'a Rc<Conn>,
    pub out: &'a mut Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Go,
    /// Send what is in the output, then close.
    Close,
}

pub enum Protocol {
    /// Accepted, not known yet: the first bytes tell.
    Unknown {
        listener: Rc<ListenerRules>,
        address: String,
    },
    H1(Box<h1::Server>),
    H2(Box<server::Server>),
    Rpc(Box<RpcClient>),
    Http(Box<HttpClient>),
    /// The runtime has ended.
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing more is read; what is in the output still goes out.
    Closing,
    /// All is sent and our half is shut: read and forget, lest a reset destroys what we sent.
    Lingering {
        until: Instant,
    },
    Dead,
}

struct State {
    io: Io,
    protocol: Protocol,
    input: Vec<u8>, // received, not yet understood
    phase: Phase,
    waker: Option<Waker>,
    opened: Instant,
    last_read: Instant,
    ping_sent: Option<Instant>,
    end_seen: bool,
    /// `Desk` holds a loan of this connection.
    is_lent: bool,
}

pub struct Conn {
    pub id: u64,
    /// The dispatcher will flush it when its batch is through.
    pub is_dirty: Cell<bool>,
    state: RefCell<State>,
}

const LINGER: Duration = Duration::from_secs(1);
const PIPELINED_BYTES_MAX: usize = 64 << 10;
/// More unsent bytes than this and we stop reading: the peer must take its answers first.
const UNSENT_BYTES_MAX: usize = 1 << 20;

impl Conn {
    /// Start a connection's task on the runtime.
    pub fn spawn(core: &Rc<Core>, io: Io, protocol: Protocol) -> Rc<Conn> {
        let now = Instant::now();
        let state = State {
            io,
            protocol,
            input: Vec::new(),
            phase: Phase::Open,
            waker: None,
            opened: now,
            last_read: now,
            ping_sent: None,
            end_seen: false,
            is_lent: false,
        };
        let conn = Rc::new(Conn {
            id: core.next_conn_id(),
            is_dirty: Cell::new(false),
            state: RefCell::new(state),
        });
        core.conns.borrow_mut().insert(conn.id, Rc::clone(&conn));
        core.stats().connections.fetch_add(1, Relaxed);
        core.ticker.notify_one();
        let (task_core, task_conn) = (Rc::clone(core), Rc::clone(&conn));
        tokio::task::spawn_local(async move {
            poll_fn(|cx| task_conn.poll(&task_core, cx)).await;
            task_core.conns.borrow_mut().remove(&task_conn.id);
            task_core.stats().connections.fetch_sub(1, Relaxed);
            task_conn.gone(&task_core);
        });
        conn
    }

    /// The state, which nobody else writes for: a loan has ended, and what it did is known.
    fn state(&self, core: &Core) -> RefMut<'_, State> {
        let mut state = self.state.borrow_mut();
        if std::mem::take(&mut state.is_lent)
            && let Some(loan) = core.shared.desk.take_back()
            && let Some(used) = loan.used
        {
            state.io.replace_output(used.rest);
            if let Protocol::H2(server) = &mut state.protocol {
                server.answered(core, loan.stream, used.data_bytes);
            }
        }
        state
    }

    /// Let the thread that answers `call` write the answer, if nothing else is under way here.
    pub fn lend(&self, core: &Core, stream: u32, call: u64) {
        let state = &mut *self.state(core);
        let Protocol::H2(server) = &state.protocol else { return };
        if state.phase != Phase::Open {
            return;
        }
        let Some((socket, mut before)) = state.io.lend(server.acks_wait) else { return };
        let Some((after, room)) = server.prepare_answer(stream, call, &mut before) else { return };
        let (conn, used) = (self.id, None);
        core.shared.desk.lend(Loan { call, conn, stream, socket, before, after, room, used });
        state.is_lent = true;
    }

    fn poll(self: &Rc<Self>, core: &Rc<Core>, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.state(core);
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        loop {
            let mut progress = false;
            if state.phase == Phase::Open && !state.input.is_empty() {
                self.understand(core, state, &[]);
            }
            let may_read = state.may_read();
            if may_read {
                if core.inbox_full() {
                    core.stall(cx.waker());
                } else {
                    progress = self.fill(core, state, cx);
                }
            }
            let waits = matches!(&state.protocol, Protocol::H2(server) if server.acks_wait);
            if state.phase != Phase::Dead
                && !(waits && state.phase == Phase::Open)
                && self.write(core, state, Some(cx)).is_err()
            {
                state.phase = Phase::Dead;
            }
            match state.phase {
                Phase::Dead => return Poll::Ready(()),
                Phase::Closing if state.io.unsent() == 0 => state.linger(core),
                _ if progress => {}
                _ if !may_read && state.may_read() => {} // what was unsent kept it from reading
                _ => return Poll::Pending,
            }
        }
    }

    /// Read once; true if something came.
    fn fill(self: &Rc<Self>, core: &Rc<Core>, state: &mut State, cx: &mut Context<'_>) -> bool {
        let mut scratch = core.scratch.borrow_mut();
        let mut cipher = core.cipher_scratch.borrow_mut();
        match state.io.poll_fill(cx, &mut scratch, &mut cipher) {
            Poll::Pending => return false,
            Poll::Ready(Ok(Fill::Data(size))) => {
                drop(cipher);
                state.last_read = Instant::now();
                state.ping_sent = None;
                if state.phase == Phase::Open && size > 0 {
                    self.understand(core, state, &scratch[..size]);
                }
            }
            Poll::Ready(Ok(Fill::End)) => {
                state.end_seen = true;
                self.end(core, state);
            }
            Poll::Ready(Err(error)) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    count(&core.stats().tls_errors, 1);
                    let _ = state.io.try_flush(); // the alert, if the socket takes it
                }
                state.phase = Phase::Dead;
                state.failed(error.to_string());
            }
        }
        true
    }

    /// Let the protocol take what it can of the old input and `data`; keep the rest.
    fn understand(self: &Rc<Self>, core: &Rc<Core>, state: &mut State, data: &[u8]) {
        let State { io, protocol, input, .. } = state;
        let mut kept = std::mem::take(input);
        let mut rest: &[u8] = data;
        if !kept.is_empty() {
            kept.extend_from_slice(data);
            rest = &kept;
        }
        if matches!(protocol, Protocol::Unknown { .. }) {
            recognize(core, self, protocol, io, rest);
        }
        let next = protocol.input(core, self, io, &mut rest, data.len());
        let left = rest.len();
        if kept.is_empty() {
            kept.extend_from_slice(&data[data.len() - left..]);
        } else {
            kept.drain(..kept.len() - left);
        }
        state.input = kept;
        if next == Next::Close && state.phase == Phase::Open {
            state.phase = Phase::Closing;
            if let Protocol::H2(server) = &mut state.protocol {
                server.gone(core); // its calls need not wait until the socket is closed
            }
        }
    }

    /// The peer sends nothing more.
    fn end(self: &Rc<Self>, core: &Rc<Core>, state: &mut State) {
        if state.phase == Phase::Open {
            if let Protocol::Http(client) = &mut state.protocol {
                client.on_end(core); // the end of a body without a length
            }
            let reading_request = matches!(&state.protocol, Protocol::H1(h1) if !h1.is_waiting());
            state.failed("connection closed by the other side".to_owned());
            if reading_request && state.io.unsent() > 0 {
                state.phase = Phase::Closing; // e.g. answered, half-closed by the client
                return;
            }
        }
        state.phase = Phase::Dead;
    }

    /// Write what the protocol has. Err: the connection is broken.
    fn write(
        self: &Rc<Self>,
        core: &Rc<Core>,
        state: &mut State,
        mut cx: Option<&mut Context<'_>>,
    ) -> io::Result<bool> {
        if let Protocol::H2(server) = &mut state.protocol {
            server.acks_wait = false;
        }
        loop {
            let mut ctx = Ctx { core, me: self, out: &mut state.io.output };
            state.protocol.pump(&mut ctx);
            let all = match cx.as_deref_mut() {
                Some(cx) => match state.io.poll_flush(cx) {
                    Poll::Ready(result) => result.map(|()| true)?,
                    Poll::Pending => false,
                },
                None => state.io.try_flush()?,
            };
            let sent = std::mem::take(&mut state.io.sent_bytes);
            state.protocol.on_sent(core, sent, state.io.unsent());
            if !all || sent == 0 {
                return Ok(all); // what is left waits for the socket or for a handshake
            }
        }
    }

    /// Write from outside the task; the task goes on with what the socket does not take.
    pub fn flush(self: &Rc<Self>, core: &Rc<Core>) {
        let state = &mut *self.state(core);
        if state.phase == Phase::Dead {
            return;
        }
        let may_read = state.may_read();
        let all = self.write(core, state, None);
        let has_work = !state.input.is_empty() || state.phase != Phase::Open || !may_read;
        if !matches!(all, Ok(true)) || has_work {
            state.wake();
        }
    }

    /// Carry out what Python wants of a call here; true: there is something to flush.
    pub fn perform(
        self: &Rc<Self>,
        core: &Rc<Core>,
        stream: u32,
        call: u64,
        command: Command,
        arena: &[u8],
    ) -> bool {
        let state = &mut *self.state(core);
        if state.phase == Phase::Dead {
            return false;
        }
        if matches!(command, Command::Consume { .. }) {
            state.wake(); // it may have stopped reading
        }
        let mut ctx = Ctx { core, me: self, out: &mut state.io.output };
        let next = match &mut state.protocol {
            Protocol::Unknown { .. } | Protocol::Gone => Next::Go,
            Protocol::H1(server) => server.perform(&mut ctx, call, command, arena),
            Protocol::H2(server) => server.perform(&mut ctx, stream, call, command, arena),
            Protocol::Rpc(client) => client.perform(&mut ctx, stream, call, command, arena),
            Protocol::Http(client) => client.perform(&mut ctx, call, command, arena),
        };
        if next == Next::Close && state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        true
    }

    /// Use the protocol from the runtime thread (client channels start calls this way).
    pub fn with<R>(
        self: &Rc<Self>,
        core: &Rc<Core>,
        act: impl FnOnce(&mut Protocol, &mut Ctx<'_>) -> R,
    ) -> R {
        let result = {
            let state = &mut *self.state(core);
            let mut ctx = Ctx { core, me: self, out: &mut state.io.output };
            act(&mut state.protocol, &mut ctx)
        };
        self.flush(core);
        result
    }

    pub fn deadline(self: &Rc<Self>, core: &Rc<Core>, stream: u32, call: u64) {
        {
            let state = &mut *self.state(core);
            let mut ctx = Ctx { core, me: self, out: &mut state.io.output };
            let next = match &mut state.protocol {
                Protocol::H2(server) => server.deadline(&mut ctx, stream, call),
                Protocol::Rpc(client) => client.deadline(&mut ctx, stream, call),
                Protocol::Http(client) => client.deadline(&mut ctx, call),
                Protocol::Unknown { .. } | Protocol::Gone | Protocol::H1(_) => Next::Go,
            };
            if next == Next::Close {
                state.phase = Phase::Closing;
            }
        }
        self.flush(core);
    }

    /// Look at the clock: handshakes, lingering, keepalive.
    pub fn tick(self: &Rc<Self>, core: &Rc<Core>, now: Instant) {
        let state = &mut *self.state(core);
        let rules = &core.rules;
        let over = match (&state.phase, &state.protocol) {
            (Phase::Lingering { until }, _) => now >= *until,
            (Phase::Dead, _) => false,
            (_, Protocol::Unknown { .. }) => now >= state.opened + rules.handshake_timeout,
            (_, Protocol::H1(server)) => {
                server.is_late() && now >= state.last_read + rules.handshake_timeout
            }
            (Phase::Closing, _) => now >= state.last_read + rules.keepalive_timeout,
            (Phase::Open, Protocol::Rpc(client)) => client.is_late(now),
            (Phase::Open, _) => false,
        };
        if over {
            state.failed("i/o timeout".to_owned());
        }
        let keepalive = match &state.protocol {
            Protocol::H2(_) => Some((rules.keepalive_interval, rules.keepalive_timeout)),
            Protocol::Rpc(client) => Some(client.keepalive()),
            _ => None,
        };
        let mut silent = false;
        if let (Some((Some(interval), timeout)), Phase::Open) = (keepalive, &state.phase) {
            silent = state.ping_sent.is_some_and(|sent| now >= sent + timeout);
            if state.ping_sent.is_none() && now >= state.last_read + interval {
                state.ping_sent = Some(now);
                state.protocol.ping(&mut state.io.output);
                let _ = state.io.try_flush(); // a broken connection is noticed by its task
            }
        }
        if silent {
            state.failed("keepalive ping failed to receive ACK within timeout".to_owned());
        }
        if over || silent {
            state.phase = Phase::Dead;
            state.wake();
        }
    }

    /// The transport is leaving: finish what is open, take nothing new.
    pub fn drain(self: &Rc<Self>, core: &Rc<Core>) {
        {
            let state = &mut *self.state(core);
            let mut ctx = Ctx { core, me: self, out: &mut state.io.output };
            let next = match &mut state.protocol {
                Protocol::Unknown { .. } | Protocol::Gone => Next::Close,
                Protocol::H1(server) => server.drain(),
                Protocol::H2(server) => server.drain(&mut ctx),
                Protocol::Rpc(_) | Protocol::Http(_) => Next::Go,
            };
            if next == Next::Close && state.phase == Phase::Open {
                state.phase = Phase::Closing;
            }
        }
        self.flush(core);
    }

    /// End it now; what is in the output still goes out.
    pub fn close(self: &Rc<Self>, core: &Rc<Core>) {
        {
            let mut state = self.state(core);
            if state.phase == Phase::Open {
                state.phase = Phase::Closing;
            }
        }
        self.flush(core);
    }

    /// The task has ended: whoever still waits for this connection is told.
    fn gone(self: &Rc<Self>, core: &Rc<Core>) {
        let state = &mut *self.state(core);
        state.phase = Phase::Dead;
        match &mut state.protocol {
            Protocol::Unknown { .. } | Protocol::Gone => {}
            Protocol::H1(server) => server.gone(core),
            Protocol::H2(server) => server.gone(core),
            Protocol::Rpc(client) => client.gone(core),
            Protocol::Http(client) => {
                client.gone(core);
                client.channel().forget(self.id);
            }
        }
    }

    /// Let go of everything, so that the socket closes whoever else still holds this.
    pub fn destroy(self: &Rc<Self>, core: &Rc<Core>) {
        self.gone(core);
        self.state(core).protocol = Protocol::Gone;
    }
}

impl State {
    fn may_read(&self) -> bool {
        if self.end_seen || self.io.unsent() > UNSENT_BYTES_MAX {
            return false;
        }
        match (&self.phase, &self.protocol) {
            (Phase::Lingering { .. }, _) => true,
            (Phase::Open, Protocol::H1(server)) => {
                server.wants_more() || self.input.len() < PIPELINED_BYTES_MAX
            }
            (Phase::Open, Protocol::Http(client)) => client.wants_more(),
            (Phase::Open, _) => true,
            (Phase::Closing | Phase::Dead, _) => false,
        }
    }

    fn linger(&mut self, core: &Core) {
        self.io.close_notify();
        let _ = self.io.try_flush();
        self.io.shutdown();
        self.input = Vec::new();
        self.phase = Phase::Lingering { until: Instant::now() + LINGER };
        let is_client = matches!(self.protocol, Protocol::Rpc(_) | Protocol::Http(_));
        if self.end_seen || is_client {
            self.phase = Phase::Dead; // a client has nothing to lose by a reset
        }
        core.ticker.notify_one();
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Client protocols tell their calls why.
    fn failed(&mut self, reason: String) {
        match &mut self.protocol {
            Protocol::Rpc(client) => client.failed(reason),
            Protocol::Http(client) => client.failed(reason),
            _ => {}
        }
    }
}

impl Protocol {
    fn input(
        &mut self,
        core: &Rc<Core>,
        me: &Rc<Conn>,
        io: &mut Io,
        rest: &mut &[u8],
        received: usize,
    ) -> Next {
        let is_grpc = matches!(self, Protocol::H2(_) | Protocol::Rpc(_));
        let stats = core.stats();
        let counter = if is_grpc { &stats.grpc_received_bytes } else { &stats.http_received_bytes };
        count(counter, received as u64);
        let mut ctx = Ctx { core, me, out: &mut io.output };
        match self {
            Protocol::Unknown { .. } | Protocol::Gone => Next::Go,
            Protocol::H1(server) => server.input(&mut ctx, rest),
            Protocol::H2(server) => server.input(&mut ctx, rest),
            Protocol::Rpc(client) => client.input(&mut ctx, rest),
            Protocol::Http(client) => client.input(&mut ctx, rest),
        }
    }

    /// Move waiting stream data into the output, as far as windows allow.
    fn pump(&mut self, ctx: &mut Ctx<'_>) {
        match self {
            Protocol::H2(server) => server.pump(ctx),
            Protocol::Rpc(client) => client.pump(ctx),
            _ => {}
        }
    }

    fn on_sent(&mut self, core: &Core, sent: u64, unsent: usize) {
        let stats = core.stats();
        match self {
            Protocol::H2(_) | Protocol::Rpc(_) => count(&stats.grpc_sent_bytes, sent),
            Protocol::H1(server) => {
                count(&stats.http_sent_bytes, sent);
                server.on_sent(core, unsent);
            }
            Protocol::Http(client) => {
                count(&stats.http_sent_bytes, sent);
                client.on_sent(core, unsent);
            }
            Protocol::Unknown { .. } | Protocol::Gone => {}
        }
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        match self {
            Protocol::H2(server) => server.ping(out),
            Protocol::Rpc(client) => client.ping(out),
            _ => {}
        }
    }
}

/// HTTP/2 begins with a preface that no HTTP/1 request can begin with.
fn recognize(core: &Rc<Core>, me: &Rc<Conn>, protocol: &mut Protocol, io: &mut Io, seen: &[u8]) {
    let Protocol::Unknown { listener, address } = protocol else { return };
    let compared = seen.len().min(h2::PREFACE.len());
    let is_h2 = seen[..compared] == h2::PREFACE[..compared];
    if is_h2 && compared < h2::PREFACE.len() {
        return;
    }
    let peer = Arc::new(peer_info(io, std::mem::take(address)));
    let listener = Rc::clone(listener);
    *protocol = if is_h2 {
        let mut ctx = Ctx { core, me, out: &mut io.output };
        Protocol::H2(Box::new(server::Server::new(&mut ctx, listener, peer)))
    } else {
        Protocol::H1(Box::new(h1::Server::new(listener, peer)))
    };
}

fn peer_info(io: &Io, address: String) -> PeerInfo {
    let mut info = PeerInfo::new(address);
    if let Some(rustls::Connection::Server(tls)) = io.tls.as_deref() {
        info.tls = true;
        info.server_name = tls.server_name().map(str::to_owned);
        info.certificate = tls.peer_certificates().and_then(|c| c.first()).map(|c| c.to_vec());
    }
    info
}
