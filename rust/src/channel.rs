//! A client's way to one target: connections made when needed, calls that wait for them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::net::{TcpStream, UnixStream};

use crate::conn::{Conn, Protocol};
use crate::core::{Core, Shared};
use crate::errors;
use crate::grpc::code;
use crate::http_client::{HttpClient, Request};
use crate::inbox::{Headers, lock};
use crate::io::{Io, Socket};
use crate::listener::{Address, Url};
use crate::outbound::Command;
use crate::rpc_client::{RpcClient, Sink, Start, Waiter};
use crate::settings::nonzero;
use crate::tls::{ClientRules, ClientTls};

pub struct Settings {
    pub tls: Arc<ClientRules>,
    pub authority: Option<String>,
    pub user_agent: String,
    pub recv_max: usize,
    pub connect_timeout: Duration,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    pub keepalive_time: Option<Duration>,
    pub keepalive_timeout: Duration,
    pub keepalive_permit_without_stream: bool,
    pub gzip: bool,
    pub idle_max: usize,
}

/// Rules of one client `Channel`.
#[pyclass(frozen, module = "corum._transport")]
pub struct ChannelSettings {
    settings: Arc<Settings>,
}

#[pymethods]
impl ChannelSettings {
    #[new]
    #[pyo3(signature = (
        *,
        tls = None,
        authority = None,
        user_agent = "corum",
        recv_max_bytes = 2_147_483_647,
        connect_timeout_ms = 20_000,
        backoff_min_ms = 100,
        backoff_max_ms = 5_000,
        keepalive_time_ms = 0,
        keepalive_timeout_ms = 20_000,
        keepalive_permit_without_stream = false,
        gzip = false,
        idle_connections_max = 4,
    ))]
    #[allow(clippy::too_many_arguments)] // keyword-only: this is the settings object itself
    fn new(
        tls: Option<&Bound<'_, ClientTls>>,
        authority: Option<String>,
        user_agent: &str,
        recv_max_bytes: usize,
        connect_timeout_ms: u64,
        backoff_min_ms: u64,
        backoff_max_ms: u64,
        keepalive_time_ms: u64,
        keepalive_timeout_ms: u64,
        keepalive_permit_without_stream: bool,
        gzip: bool,
        idle_connections_max: usize,
    ) -> PyResult<Self> {
        let tls = match tls {
            Some(tls) => tls.get().rules(),
            None => ClientTls::default_rules()?,
        };
        let settings = Settings {
            tls,
            authority,
            user_agent: user_agent.to_owned(),
            recv_max: recv_max_bytes,
            connect_timeout: Duration::from_millis(connect_timeout_ms),
            backoff_min: Duration::from_millis(backoff_min_ms),
            backoff_max: Duration::from_millis(backoff_max_ms),
            keepalive_time: nonzero(keepalive_time_ms),
            keepalive_timeout: Duration::from_millis(keepalive_timeout_ms),
            keepalive_permit_without_stream,
            gzip,
            idle_max: idle_connections_max,
        };
        Ok(ChannelSettings { settings: Arc::new(settings) })
    }
}

const STATES: [&str; 5] = ["idle", "connecting", "ready", "failed", "closed"];
const IDLE: u8 = 0;
const CONNECTING: u8 = 1;
const READY: u8 = 2;
const FAILED: u8 = 3;
const CLOSED: u8 = 4;

/// What Python may look at from any thread.
#[derive(Default)]
struct Status {
    state: AtomicU8,
    error: Mutex<Option<String>>,
}

/// The channel as the runtime thread has it.
pub struct Channel {
    pub url: Url,
    pub authority: String,
    pub settings: Arc<Settings>,
    status: Arc<Status>,
    rpc: RefCell<Option<Rc<Conn>>>,
    waiting: RefCell<Vec<Start>>, // until the connection is there
    connecting: Cell<bool>,
    backoff: Cell<Duration>,
    failed_until: Cell<Option<Instant>>,
    http: RefCell<Vec<Rc<Conn>>>,
    idle: RefCell<Vec<Rc<Conn>>>,
    closed: Cell<bool>,
}

/// A client call that has no connection yet, and what was already asked of it.
pub struct Early {
    channel: Rc<Channel>,
    commands: Vec<(Command, Vec<u8>)>,
}

fn left_ns(deadline: Instant) -> u64 {
    deadline.saturating_duration_since(Instant::now()).as_nanos() as u64
}

impl Channel {
    fn new(url: Url, settings: Arc<Settings>, status: Arc<Status>) -> Rc<Channel> {
        let authority = settings.authority.clone().unwrap_or_else(|| match &url.address {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        });
        Rc::new(Channel {
            url,
            authority,
            status,
            rpc: RefCell::default(),
            waiting: RefCell::default(),
            connecting: Cell::new(false),
            backoff: Cell::new(settings.backoff_min),
            failed_until: Cell::new(None),
            http: RefCell::default(),
            idle: RefCell::default(),
            closed: Cell::new(false),
            settings,
        })
    }

    fn set(&self, state: u8) {
        self.status.state.store(if self.closed.get() { CLOSED } else { state }, SeqCst);
    }

    /// The server has spoken: the connection works.
    pub fn connected(&self) {
        self.backoff.set(self.settings.backoff_min);
        self.failed_until.set(None);
        self.set(READY);
    }

    /// The gRPC connection takes no more calls; `failure`: it never worked.
    pub fn disconnected(&self, _core: &Core, failure: Option<String>) {
        *self.rpc.borrow_mut() = None;
        match failure {
            Some(text) => self.failed(text),
            None => self.set(IDLE),
        }
    }

    fn failed(&self, text: String) {
        *lock(&self.status.error) = Some(text);
        let backoff = self.backoff.get();
        self.failed_until.set(Some(Instant::now() + backoff));
        self.backoff.set((backoff * 2).min(self.settings.backoff_max));
        self.set(FAILED);
    }

    /// What to tell calls while the last connect is known to have failed.
    fn known_failure(&self) -> Option<String> {
        let until = self.failed_until.get()?;
        (Instant::now() < until).then(|| lock(&self.status.error).clone().unwrap_or_default())
    }

    // gRPC ------------------------------------------------------------------------------------

    fn start(self: &Rc<Self>, core: &Rc<Core>, start: Start) {
        if self.closed.get() {
            return start.fail(core, code::CANCELLED, "the channel is closed".to_owned());
        }
        core.early_calls(start.call, self);
        if let Some(deadline) = start.deadline {
            core.set_deadline(start.call, left_ns(deadline));
        }
        let conn = self.rpc.borrow().clone();
        if let Some(conn) = conn {
            return conn.with(core, |protocol, ctx| {
                if let Protocol::Rpc(client) = protocol {
                    client.start(ctx, start);
                }
            });
        }
        if let Some(text) = self.known_failure() {
            return start.fail(core, code::UNAVAILABLE, text);
        }
        self.waiting.borrow_mut().push(start);
        if !self.connecting.replace(true) {
            self.set(CONNECTING);
            tokio::task::spawn_local(Rc::clone(self).connect_rpc(Rc::clone(core)));
        }
    }

    async fn connect_rpc(self: Rc<Self>, core: Rc<Core>) {
        let connected = self.connect(b"h2").await;
        self.connecting.set(false);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        let io = match connected {
            Ok(io) if !self.closed.get() => io,
            Ok(_) => return fail_all(&core, waiting, code::CANCELLED, "the channel is closed"),
            Err(text) => {
                self.failed(text.clone());
                return fail_all(&core, waiting, code::UNAVAILABLE, &text);
            }
        };
        let mut io = io;
        let client = RpcClient::new(Rc::clone(&self), &mut io.output);
        let conn = Conn::spawn(&core, io, Protocol::Rpc(Box::new(client)));
        *self.rpc.borrow_mut() = Some(Rc::clone(&conn));
        conn.with(&core, |protocol, ctx| {
            for start in waiting {
                if let Protocol::Rpc(client) = &mut *protocol {
                    client.start(ctx, start);
                }
            }
        });
    }

    // HTTP ------------------------------------------------------------------------------------

    fn request(self: &Rc<Self>, core: &Rc<Core>, request: Request) {
        if self.closed.get() {
            return request.fail(core, code::CANCELLED, "the channel is closed".to_owned());
        }
        core.early_calls(request.call, self);
        if let Some(deadline) = request.deadline {
            core.set_deadline(request.call, left_ns(deadline));
        }
        let parked = self.idle.borrow_mut().pop();
        match parked {
            Some(conn) => start_http(core, &conn, request),
            None => {
                let channel = Rc::clone(self);
                let core = Rc::clone(core);
                tokio::task::spawn_local(channel.connect_http(core, request));
            }
        }
    }

    async fn connect_http(self: Rc<Self>, core: Rc<Core>, request: Request) {
        let io = match self.connect(b"http/1.1").await {
            Ok(io) => io,
            Err(text) => {
                if core.take_early(request.call).is_some() {
                    request.fail(&core, code::UNAVAILABLE, text);
                }
                return;
            }
        };
        if self.closed.get() {
            let text = "the channel is closed".to_owned();
            return request.fail(&core, code::CANCELLED, text);
        }
        if !core.early.borrow().contains_key(&request.call) {
            return; // given up meanwhile
        }
        let client = HttpClient::new(Rc::clone(&self));
        let conn = Conn::spawn(&core, io, Protocol::Http(Box::new(client)));
        self.http.borrow_mut().push(Rc::clone(&conn));
        start_http(&core, &conn, request);
    }

    /// The connection may serve the next request; false: there are enough of them.
    pub fn park(&self, conn: &Rc<Conn>) -> bool {
        let mut idle = self.idle.borrow_mut();
        if self.closed.get() || idle.len() >= self.settings.idle_max {
            return false;
        }
        idle.push(Rc::clone(conn));
        true
    }

    /// An HTTP connection has ended.
    pub fn forget(&self, conn: u64) {
        self.idle.borrow_mut().retain(|other| other.id != conn);
        self.http.borrow_mut().retain(|other| other.id != conn);
    }

    // Connecting ------------------------------------------------------------------------------

    async fn connect(&self, protocol: &[u8]) -> Result<Io, String> {
        let host = match &self.url.address {
            Address::Tcp { host, .. } => host.as_str(),
            Address::Unix(_) => "localhost",
        };
        let name = self.authority.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = if self.settings.authority.is_some() { name } else { host };
        let tls =
            if self.url.tls {
                let tls = self.settings.tls.connect(name, protocol);
                Some(tls.map_err(|error| {
                    describe(&format!("authentication handshake failed: {error}"))
                })?)
            } else {
                None
            };
        let dialing = tokio::time::timeout(self.settings.connect_timeout, self.dial());
        let dialed = dialing.await.unwrap_or_else(|_| Err("i/o timeout".to_owned()));
        let socket = dialed.map_err(|text| describe(&format!("Error while dialing: {text}")))?;
        Ok(Io::new(socket, tls))
    }

    async fn dial(&self) -> Result<Socket, String> {
        match &self.url.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                let failed = |error| format!("dial unix {path}: connect: {}", os_text(&error));
                stream.map(Socket::Unix).map_err(failed)
            }
            Address::Tcp { host, port } => {
                let resolved = tokio::net::lookup_host((host.as_str(), *port)).await;
                let resolved = resolved
                    .map_err(|error| format!("dial tcp: lookup {host}: {}", os_text(&error)))?;
                let mut last = format!("dial tcp: lookup {host}: no such host");
                for address in resolved {
                    match TcpStream::connect(address).await {
                        Ok(stream) => {
                            // Without it each small request may wait for an acknowledgement.
                            let _ = stream.set_nodelay(true);
                            return Ok(Socket::Tcp(stream));
                        }
                        Err(error) => {
                            last = format!("dial tcp {address}: connect: {}", os_text(&error));
                        }
                    }
                }
                Err(last)
            }
        }
    }

    fn close(self: &Rc<Self>, core: &Rc<Core>) {
        self.closed.set(true);
        self.set(CLOSED);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        fail_all(core, waiting, code::CANCELLED, "the channel is closed");
        let rpc = self.rpc.borrow_mut().take();
        if let Some(conn) = rpc {
            conn.with(core, |protocol, ctx| {
                if let Protocol::Rpc(client) = protocol {
                    client.close(ctx);
                }
            });
            conn.close(core);
        }
        for conn in self.http.take() {
            conn.with(core, |protocol, ctx| {
                if let Protocol::Http(client) = protocol {
                    client.close(ctx.core);
                }
            });
            conn.close(core);
        }
        self.idle.take();
    }
}

fn fail_all(core: &Core, waiting: Vec<Start>, code: u32, text: &str) {
    for start in waiting {
        core.take_early(start.call);
        start.fail(core, code, text.to_owned());
    }
}

fn start_http(core: &Rc<Core>, conn: &Rc<Conn>, request: Request) {
    conn.with(core, |protocol, ctx| {
        if let Protocol::Http(client) = protocol {
            client.start(ctx, request);
        }
    });
}

fn describe(text: &str) -> String {
    format!("connection error: desc = \"transport: {text}\"")
}

/// "connection refused", as Go writes it.
fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

// Calls without a connection --------------------------------------------------------------------

impl Core {
    fn early_calls(&self, call: u64, channel: &Rc<Channel>) {
        let early = Early { channel: Rc::clone(channel), commands: Vec::new() };
        self.early.borrow_mut().insert(call, early);
    }

    /// What was asked of the call before it had a connection; None: it was given up.
    pub fn take_early(&self, call: u64) -> Option<Vec<(Command, Vec<u8>)>> {
        self.early.borrow_mut().remove(&call).map(|early| early.commands)
    }

    /// A command for a call that has no connection yet; false: there is no such call.
    pub fn early_command(self: &Rc<Self>, call: u64, command: Command, arena: &[u8]) -> bool {
        if matches!(command, Command::Cancel { .. } | Command::Abort { .. }) {
            return self.give_up_early(call, None);
        }
        let mut early = self.early.borrow_mut();
        let Some(entry) = early.get_mut(&call) else { return false };
        let kept = match command {
            Command::Send { at, len, .. } => {
                (Command::Send { call, at: 0, len }, arena[at..at + len].to_vec())
            }
            other => (other, Vec::new()),
        };
        entry.commands.push(kept);
        true
    }

    /// The call ends before it had a connection: silently, or with this status.
    pub fn give_up_early(self: &Rc<Self>, call: u64, status: Option<(u32, &str)>) -> bool {
        let Some(Early { channel, .. }) = self.early.borrow_mut().remove(&call) else {
            return false;
        };
        let waiting = channel.waiting.borrow().iter().position(|start| start.call == call);
        let start = match waiting {
            Some(at) => Some(channel.waiting.borrow_mut().remove(at)),
            None => {
                let conn = channel.rpc.borrow().clone();
                conn.and_then(|conn| {
                    conn.with(self, |protocol, _| match protocol {
                        Protocol::Rpc(client) => client.drop_waiting(call),
                        _ => None,
                    })
                })
            }
        };
        match (start, status) {
            (Some(start), Some((code, text))) => start.fail(self, code, text.to_owned()),
            (None, Some((code, text))) => {
                // An HTTP request whose connect is under way; it will find that it is gone.
                self.release(call);
                let (text, trailers) = (text.to_owned(), Box::default());
                self.push(|_| crate::inbox::Event::ResponseEnd { call, code, text, trailers });
            }
            (_, None) => self.release(call),
        }
        true
    }
}

// What Python holds -----------------------------------------------------------------------------

/// A client's way to one target.
#[pyclass(frozen, name = "Channel", module = "corum._transport")]
pub struct Handle {
    id: u64,
    shared: Arc<Shared>,
    status: Arc<Status>,
}

pub fn open(
    shared: &Arc<Shared>,
    url: Url,
    settings: Option<&ChannelSettings>,
) -> PyResult<Handle> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let settings = match settings {
        Some(settings) => Arc::clone(&settings.settings),
        None => {
            let default = ChannelSettings::new(
                None,
                None,
                "corum",
                2_147_483_647,
                20_000,
                100,
                5_000,
                0,
                20_000,
                false,
                false,
                4,
            )?;
            default.settings
        }
    };
    let id = NEXT_ID.fetch_add(1, Relaxed);
    let status = Arc::<Status>::default();
    let for_runtime = Arc::clone(&status);
    shared.run(move |core| {
        let channel = Channel::new(url, settings, for_runtime);
        core.channels.borrow_mut().insert(id, channel);
    });
    Ok(Handle { id, shared: Arc::clone(shared), status })
}

const SLICE: Duration = Duration::from_millis(100);

impl Handle {
    /// Run `act` with the channel on the runtime thread.
    fn run(&self, act: impl FnOnce(&Rc<Core>, &Rc<Channel>) + Send + 'static) -> PyResult<()> {
        if self.shared.closed.load(SeqCst) {
            return Err(errors::closed());
        }
        let id = self.id;
        self.shared.run(move |core| {
            let channel = core.channels.borrow().get(&id).cloned();
            if let Some(channel) = channel {
                act(core, &channel);
            }
        });
        Ok(())
    }

    fn start(
        &self,
        path: String,
        message: Option<Vec<u8>>,
        metadata: Headers,
        timeout_ms: u64,
        sink: Sink,
    ) -> PyResult<u64> {
        let call = self.shared.flows.new_client();
        let deadline = deadline(timeout_ms);
        let start = Start { call, path, metadata, message, deadline, sink };
        self.run(move |core, channel| channel.start(core, start))?;
        Ok(call)
    }
}

fn deadline(timeout_ms: u64) -> Option<Instant> {
    (timeout_ms > 0).then(|| Instant::now() + Duration::from_millis(timeout_ms.min(1 << 40)))
}

#[pymethods]
impl Handle {
    #[getter]
    fn state(&self) -> &'static str {
        if self.shared.closed.load(SeqCst) {
            return STATES[CLOSED as usize];
        }
        STATES[self.status.state.load(SeqCst) as usize]
    }

    #[getter]
    fn last_error(&self) -> Option<String> {
        lock(&self.status.error).clone()
    }

    #[pyo3(signature = (path, message, metadata = vec![], timeout_ms = 0))]
    fn unary<'py>(
        &self,
        py: Python<'py>,
        path: String,
        message: &[u8],
        metadata: Headers,
        timeout_ms: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let waiter = Arc::<Waiter>::default();
        let sink = Sink::Waiter(Arc::clone(&waiter));
        let call = self.start(path, Some(message.to_vec()), metadata, timeout_ms, sink)?;
        loop {
            match py.detach(|| waiter.wait(SLICE)) {
                Some(Ok(message)) => return Ok(PyBytes::new(py, &message)),
                Some(Err((code, text, metadata))) => {
                    return Err(errors::rpc(py, code, text, metadata));
                }
                None => {}
            }
            if let Err(interrupt) = py.check_signals() {
                self.shared.command(|outbound| outbound.commands.push(Command::Cancel { call }));
                return Err(interrupt);
            }
            if self.shared.closed.load(SeqCst) {
                return Err(errors::closed());
            }
        }
    }

    #[pyo3(signature = (path, message, metadata = vec![], timeout_ms = 0))]
    fn start_unary(
        &self,
        path: String,
        message: &[u8],
        metadata: Headers,
        timeout_ms: u64,
    ) -> PyResult<u64> {
        self.start(path, Some(message.to_vec()), metadata, timeout_ms, Sink::Inbox)
    }

    #[pyo3(signature = (path, metadata = vec![], timeout_ms = 0))]
    fn start_stream(&self, path: String, metadata: Headers, timeout_ms: u64) -> PyResult<u64> {
        self.start(path, None, metadata, timeout_ms, Sink::Inbox)
    }

    #[pyo3(signature = (verb, target, headers = vec![], body = Some(vec![]), timeout_ms = 0))]
    fn http_request(
        &self,
        verb: String,
        target: String,
        headers: Headers,
        body: Option<Vec<u8>>,
        timeout_ms: u64,
    ) -> PyResult<u64> {
        let call = self.shared.flows.new_client();
        let deadline = deadline(timeout_ms);
        let request = Request { call, verb, target, headers, body, deadline };
        self.run(move |core, channel| channel.request(core, request))?;
        Ok(call)
    }

    fn close(&self) {
        let id = self.id;
        self.status.state.store(CLOSED, SeqCst);
        // A transport that is closed has closed its channels.
        let _ = self.run(move |core, channel| {
            channel.close(core);
            core.channels.borrow_mut().remove(&id);
        });
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
