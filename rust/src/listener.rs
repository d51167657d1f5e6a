//! Listening sockets: addresses, binding, accepting.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;

use crate::conn::{Conn, ListenerRules, Protocol};
use crate::core::{Core, Shared, count};
use crate::errors;
use crate::inbox::lock;
use crate::io::{Io, Socket};
use crate::tls::Acceptor;

/// Where to listen or connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Unix(String),
}

/// A parsed "http(s)://host:port" or "unix(s)://path"; `tls` by the scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub address: Address,
    pub tls: bool,
}

impl Url {
    /// Without a scheme it is "host:port" in the clear.
    pub fn parse(text: &str) -> PyResult<Url> {
        let bad = || PyValueError::new_err(format!("not an address: {text:?}"));
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if scheme.starts_with("unix") => {
                (scheme, rest.strip_prefix("//").unwrap_or(rest))
            }
            _ => text.split_once("://").unwrap_or(("http", text)),
        };
        let tls = match scheme {
            "http" | "unix" => false,
            "https" | "unixs" => true,
            _ => return Err(bad()),
        };
        if scheme.starts_with("unix") {
            let path = rest.to_owned();
            return if path.is_empty() {
                Err(bad())
            } else {
                Ok(Url { address: Address::Unix(path), tls })
            };
        }
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| bad())?;
        Ok(Url { address: Address::Tcp { host: host.to_owned(), port }, tls })
    }
}

enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

const BACKLOG: i32 = 4096;

fn bind(address: &Address, unix_mode: u32) -> io::Result<(Bound, String)> {
    match address {
        Address::Tcp { host, port } => {
            let host = if host.is_empty() { "::" } else { host };
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for resolved in std::net::ToSocketAddrs::to_socket_addrs(&(host, *port))? {
                match bind_tcp(resolved) {
                    Ok(listener) => {
                        let address = listener.local_addr()?.to_string();
                        return Ok((Bound::Tcp(listener), address));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        Address::Unix(path) => {
            use std::os::unix::fs::{FileTypeExt, PermissionsExt};
            // A socket that a dead process left behind is in the way; a live one is not ours.
            let stale = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
                && std::os::unix::net::UnixStream::connect(path).is_err();
            if stale {
                std::fs::remove_file(path)?;
            }
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(unix_mode))?;
            listener.set_nonblocking(true)?;
            Ok((Bound::Unix(listener), path.clone()))
        }
    }
}

fn bind_tcp(address: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // As Go: the unspecified address takes IPv4 too, where the system allows it.
        let _ = socket.set_only_v6(false);
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A bound address that accepts connections until closed.
#[pyclass(frozen, module = "corum._transport")]
pub struct Listener {
    id: u64,
    address: String,
    unix_path: Option<String>,
    shared: Arc<Shared>,
    closed: Mutex<bool>,
}

#[pymethods]
impl Listener {
    #[getter]
    fn id(&self) -> u64 {
        self.id
    }

    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    /// Stop accepting and free the address.
    fn close(&self, py: Python<'_>) {
        if std::mem::replace(&mut *lock(&self.closed), true) {
            return;
        }
        if self.shared.closed.load(SeqCst) {
            return self.remove_path(); // the runtime has closed its sockets
        }
        let (done, wait) = mpsc::channel();
        let id = self.id;
        self.shared.run(move |core| {
            if let Some(stop) = core.listeners.borrow_mut().remove(&id) {
                stop.notify_one();
            }
            // The accepting task drops its socket before this one runs.
            tokio::task::spawn_local(async move {
                tokio::task::yield_now().await;
                let _ = done.send(());
            });
        });
        py.detach(move || {
            let _ = wait.recv_timeout(Duration::from_secs(5));
        });
        self.remove_path();
    }

    fn __repr__(&self) -> String {
        format!("Listener({:?})", self.address)
    }
}

impl Listener {
    fn remove_path(&self) {
        if let Some(path) = &self.unix_path {
            let _ = std::fs::remove_file(path); // somebody else may have cleaned up
        }
    }
}

pub struct Rules {
    pub grpc: bool,
    pub http: bool,
    pub streaming: Vec<String>,
    pub unix_mode: u32,
    pub acceptor: Option<Acceptor>,
}

pub fn listen(shared: &Arc<Shared>, url: &Url, rules: Rules) -> PyResult<Listener> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let id = NEXT_ID.fetch_add(1, Relaxed);
    let (bound, address) =
        bind(&url.address, rules.unix_mode).map_err(|error| errors::io(&error, "listen"))?;
    let Rules { grpc, http, streaming, acceptor, .. } = rules;
    shared.run(move |core| {
        let rules = Rc::new(ListenerRules { id, grpc, http, streaming });
        let stop = Rc::new(Notify::new());
        core.listeners.borrow_mut().insert(id, Rc::clone(&stop));
        let accepting = accept(Rc::clone(core), bound, rules, acceptor);
        tokio::task::spawn_local(async move {
            let mut accepting = std::pin::pin!(accepting);
            let mut stopped = std::pin::pin!(stop.notified());
            std::future::poll_fn(|cx| {
                if stopped.as_mut().poll(cx).is_ready() || accepting.as_mut().poll(cx).is_ready() {
                    return std::task::Poll::Ready(());
                }
                std::task::Poll::Pending
            })
            .await;
        });
    });
    let unix_path = match &url.address {
        Address::Unix(path) => Some(path.clone()),
        Address::Tcp { .. } => None,
    };
    Ok(Listener { id, address, unix_path, shared: Arc::clone(shared), closed: Mutex::new(false) })
}

enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

async fn accept(
    core: Rc<Core>,
    bound: Bound,
    rules: Rc<ListenerRules>,
    acceptor: Option<Acceptor>,
) {
    let listening = match bound {
        Bound::Tcp(listener) => TcpListener::from_std(listener).map(Accepting::Tcp),
        Bound::Unix(listener) => UnixListener::from_std(listener).map(Accepting::Unix),
    };
    let Ok(listening) = listening else {
        return count(&core.stats().accept_errors, 1);
    };
    loop {
        match next_socket(&listening).await {
            Ok((socket, address)) => start(&core, socket, address, &rules, acceptor.as_ref()),
            Err(error) => {
                count(&core.stats().accept_errors, 1);
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    // Out of descriptors: let some go first.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn next_socket(listening: &Accepting) -> io::Result<(Socket, String)> {
    match listening {
        Accepting::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            // Without it each small answer may wait for an acknowledgement.
            stream.set_nodelay(true)?;
            Ok((Socket::Tcp(stream), address.to_string()))
        }
        Accepting::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            Ok((Socket::Unix(stream), "@".to_owned()))
        }
    }
}

fn start(
    core: &Rc<Core>,
    socket: Socket,
    address: String,
    rules: &Rc<ListenerRules>,
    acceptor: Option<&Acceptor>,
) {
    count(&core.stats().accepted, 1);
    let tls = match acceptor.map(Acceptor::accept).transpose() {
        Ok(tls) => tls,
        Err(_) => return count(&core.stats().tls_errors, 1),
    };
    let protocol = Protocol::Unknown { listener: Rc::clone(rules), address };
    Conn::spawn(core, Io::new(socket, tls), protocol);
}
