//! `Transport`: the class that Python holds, and the thread behind it.

use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyAnyMethods, PyBytes, PyDict, PyList, PySequence, PyTuple};
use tokio::sync::Notify;

use crate::calls::{CLIENT, Flows, TICK_MS};
use crate::channel::{self, ChannelSettings};
use crate::core::{Core, Shared, Stats, count};
use crate::errors;
use crate::http;
use crate::inbox::{Event, Headers, Inbox, lock};
use crate::listener::{self, Listener, Url};
use crate::loan::{Answer, Desk};
use crate::outbound::{Command, LARGE_BYTES, Outbound, dispatch};
use crate::queue::Piece;
use crate::settings::Settings;
use crate::tls::{Acceptor, ServerTls};

#[pyclass(frozen, module = "corum._transport")]
pub struct Transport {
    pub shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The runtime thread, until the transport is closed.
fn run(shared: Arc<Shared>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        shared.closed.store(true, SeqCst);
        return shared.inbox.close();
    };
    let local = tokio::task::LocalSet::new();
    let core = Core::new(shared);
    local.spawn_local(dispatch(Rc::clone(&core)));
    local.spawn_local(flush_events(Rc::clone(&core)));
    local.spawn_local(tick(Rc::clone(&core)));
    let until = Rc::clone(&core);
    local.block_on(&runtime, async move {
        until.stop.notified().await;
    });
    let _in_runtime = runtime.enter();
    core.shut();
}

async fn flush_events(core: Rc<Core>) {
    std::future::poll_fn(|cx| {
        core.flush_events(cx.waker());
        std::task::Poll::<()>::Pending
    })
    .await;
}

async fn tick(core: Rc<Core>) {
    loop {
        let woken = std::pin::pin!(core.ticker.notified());
        let interval = core.tick_ms();
        core.ticks_slowly.set(interval.is_none_or(|ms| ms > TICK_MS));
        let over = match interval {
            None => {
                woken.await;
                false
            }
            Some(ms) => tokio::time::timeout(Duration::from_millis(ms), woken).await.is_err(),
        };
        if over {
            core.tick();
        }
    }
}

/// The items of a batch; a list costs no call per item.
fn each(
    batch: &Bound<'_, PyAny>,
    mut act: impl FnMut(&Bound<'_, PyTuple>) -> PyResult<()>,
) -> PyResult<()> {
    if let Ok(list) = batch.cast::<PyList>() {
        for item in list {
            act(item.cast::<PyTuple>()?)?;
        }
        return Ok(());
    }
    for item in batch.cast::<PySequence>()?.try_iter()? {
        act(item?.cast::<PyTuple>()?)?;
    }
    Ok(())
}

fn call_and_bytes<'py>(item: &Bound<'py, PyTuple>) -> PyResult<(u64, Bound<'py, PyBytes>)> {
    let call = item.get_item(0)?.extract()?;
    let data = item.get_item(1)?.cast_into::<PyBytes>();
    Ok((call, data.map_err(|_| PyTypeError::new_err("a message must be bytes"))?))
}

// Pieces are dropped by the runtime thread, which has no interpreter: whoever next enters this
// module with one gives the objects back.

/// One message: bytes, or a sequence of bytes.
fn pieces_of(data: &Bound<'_, PyAny>) -> PyResult<Vec<Piece>> {
    if let Ok(data) = data.cast::<PyBytes>() {
        return Ok(vec![piece_of(data)]);
    }
    let no_message = || PyTypeError::new_err("a message must be bytes or a sequence of bytes");
    let pieces = data.cast::<PySequence>().map_err(|_| no_message())?.try_iter()?;
    let pieces = pieces.map(|piece| match piece?.cast::<PyBytes>() {
        Ok(piece) => Ok(piece_of(piece)),
        Err(_) => Err(no_message()),
    });
    pieces.collect()
}

fn piece_of(data: &Bound<'_, PyBytes>) -> Piece {
    Box::new(PyBackedBytes::from(data.clone()))
}

impl Transport {
    fn check_open(&self) -> PyResult<()> {
        if self.shared.closed.load(SeqCst) { Err(errors::closed()) } else { Ok(()) }
    }

    fn stale(&self) {
        count(&self.shared.stats.stale_replies, 1);
    }

    fn one(&self, command: Command) {
        self.shared.command(|outbound| outbound.commands.push(command));
    }

    /// A message or piece of one call; is it over the high-water mark?
    fn send_one(&self, call: u64, data: &[u8]) -> bool {
        let Some(over) = self.shared.flows.add(call, data.len()) else {
            self.stale();
            return false;
        };
        self.shared.command(|outbound| {
            let (at, len) = outbound.store(data);
            outbound.commands.push(Command::Send { call, at, len });
        });
        over
    }

    /// The one answer to a lone call goes out from here, see `loan`. False: hand it over.
    fn reply_alone(&self, batch: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(list) = batch.cast::<PyList>().ok().filter(|list| list.len() == 1) else {
            return Ok(false);
        };
        let item = list.get_item(0)?.cast_into::<PyTuple>()?;
        let (call, data) = (item.get_item(0)?.extract()?, item.get_item(1)?);
        let Ok(data) = data.cast::<PyBytes>() else { return Ok(false) }; // in pieces
        match self.shared.desk.answer(call, data.as_bytes(), &self.shared.stats) {
            Answer::Refused => return Ok(false),
            Answer::Sent => {}
            Answer::Begun(conn) => self.shared.run(move |core| {
                let conn = core.conns.borrow().get(&conn).cloned();
                if let Some(conn) = conn {
                    conn.flush(core);
                }
            }),
        }
        Ok(true)
    }

    fn resume_if_drained(&self) {
        let (inbox, rules) = (&self.shared.inbox, &self.shared.rules);
        if inbox.stalled.load(SeqCst)
            && inbox.events.load(Relaxed) <= rules.inbox_events_max / 2
            && inbox.bytes.load(Relaxed) <= rules.inbox_bytes_max / 2
            && inbox.stalled.swap(false, SeqCst)
        {
            self.one(Command::Resume);
        }
    }
}

#[pymethods]
impl Transport {
    #[new]
    #[pyo3(signature = (settings = None))]
    fn new(settings: Option<&Bound<'_, Settings>>) -> PyResult<Self> {
        let rules = match settings {
            Some(settings) => Arc::clone(&settings.get().rules),
            None => Settings::default_rules()?,
        };
        let shared = Arc::new(Shared {
            inbox: Inbox::default(),
            outbound: Mutex::new(Outbound::default()),
            outbound_arrived: Notify::new(),
            flows: Arc::new(Flows::new(rules.high_water, rules.low_water)),
            desk: Desk::default(),
            stats: Stats::default(),
            closed: false.into(),
            rules,
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("corum-transport".to_owned())
            .spawn(move || run(for_thread))
            .map_err(|error| errors::io(&error, "transport thread"))?;
        Ok(Transport { shared, thread: Mutex::new(Some(thread)) })
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (kind, value, traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) {
        let _ = (kind, value, traceback);
        self.close(py);
    }

    #[pyo3(signature = (
        url, *, tls = None, grpc = true, http = true, streaming = vec![], unix_mode = 0o600
    ))]
    #[allow(clippy::too_many_arguments)]
    fn listen(
        &self,
        py: Python<'_>,
        url: &str,
        tls: Option<&Bound<'_, ServerTls>>,
        grpc: bool,
        http: bool,
        streaming: Vec<String>,
        unix_mode: u32,
    ) -> PyResult<Listener> {
        self.check_open()?;
        let url = Url::parse(url)?;
        let acceptor = match (url.tls, tls) {
            (true, Some(tls)) => {
                let acceptor = Acceptor::new(tls.get());
                Some(acceptor.map_err(|error| errors::io(&error, "certificates"))?)
            }
            (true, None) => return Err(PyValueError::new_err("this url needs tls")),
            (false, _) => None,
        };
        let rules = listener::Rules { grpc, http, streaming, unix_mode, acceptor };
        py.detach(|| listener::listen(&self.shared, &url, rules))
    }

    #[pyo3(signature = (target, settings = None))]
    fn connect(
        &self,
        target: &str,
        settings: Option<&Bound<'_, ChannelSettings>>,
    ) -> PyResult<channel::Handle> {
        self.check_open()?;
        channel::open(&self.shared, Url::parse(target)?, settings.map(Bound::get))
    }

    // The inbox

    fn poll<'py>(
        &self,
        py: Python<'py>,
        timeout_ms: i64,
        events_max: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let events = self.shared.inbox.poll(py, timeout_ms, events_max)?;
        self.resume_if_drained();
        PyList::new(py, events)
    }

    #[pyo3(signature = (obj, /))]
    fn post(&self, obj: Py<PyAny>) {
        self.shared.inbox.push(Event::Posted(obj));
    }

    fn fileno(&self) -> PyResult<i32> {
        self.shared.inbox.fileno().map_err(|error| errors::io(&error, "pipe"))
    }

    fn drain_fileno(&self) {
        self.shared.inbox.drain_fileno();
    }

    // Answers

    #[pyo3(signature = (batch, /))]
    fn reply(&self, batch: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.reply_alone(batch)? {
            return Ok(());
        }
        let mut result = Ok(());
        self.shared.command(|outbound| {
            result = each(batch, |item| {
                let (call, data) = (item.get_item(0)?.extract()?, item.get_item(1)?);
                let command = match data.cast::<PyBytes>() {
                    Ok(data) if data.as_bytes().len() < LARGE_BYTES => {
                        let (at, len) = outbound.store(data.as_bytes());
                        Command::Reply { call, at, len }
                    }
                    _ => Command::ReplyPieces { call, pieces: pieces_of(&data)? },
                };
                outbound.commands.push(command);
                Ok(())
            });
        });
        result
    }

    #[pyo3(signature = (batch, /))]
    fn fail(&self, batch: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut commands = Vec::new();
        each(batch, |item| {
            let (call, code, text) = item.extract()?;
            commands.push(Command::Fail { call, code, text });
            Ok(())
        })?;
        self.shared.command(|outbound| outbound.commands.extend(commands));
        Ok(())
    }

    #[pyo3(signature = (batch, /))]
    fn send(&self, batch: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
        let mut over = Vec::new();
        let mut result = Ok(());
        self.shared.command(|outbound| {
            let mut last: Option<(*mut pyo3::ffi::PyObject, usize)> = None;
            result = each(batch, |item| {
                let (call, data) = call_and_bytes(item)?;
                let len = data.as_bytes().len();
                match self.shared.flows.add(call, len) {
                    None => {
                        self.stale();
                        return Ok(());
                    }
                    Some(true) => over.push(call),
                    Some(false) => {}
                }
                if len >= LARGE_BYTES && call & CLIENT == 0 {
                    let pieces = vec![piece_of(&data)];
                    outbound.commands.push(Command::SendPieces { call, pieces });
                    return Ok(());
                }
                // The batch keeps the object alive, so an equal pointer is the same object.
                let at = match last {
                    Some((object, at)) if object == data.as_ptr() => at,
                    _ => outbound.store(data.as_bytes()).0,
                };
                last = Some((data.as_ptr(), at));
                outbound.commands.push(Command::Send { call, at, len });
                Ok(())
            });
        });
        result.map(|()| over)
    }

    fn http_reply(&self, call: u64, status: u16, headers: Headers, body: &[u8]) {
        self.shared.command(|outbound| {
            outbound.http_reply(call, status, |out| http::write_lines(out, &headers), body);
        });
    }

    #[pyo3(signature = (batch, /))]
    fn http_replies(&self, batch: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut result = Ok(());
        self.shared.command(|outbound| {
            result = each(batch, |item| {
                let (call, status) = (item.get_item(0)?.extract()?, item.get_item(1)?.extract()?);
                let (lines, body) = (item.get_item(2)?, item.get_item(3)?);
                let (lines, body) = (lines.cast::<PyBytes>()?, body.cast::<PyBytes>()?);
                let write_lines = |out: &mut Vec<u8>| out.extend_from_slice(lines.as_bytes());
                outbound.http_reply(call, status, write_lines, body.as_bytes());
                Ok(())
            });
        });
        result
    }

    fn http_start(&self, call: u64, status: u16, headers: Headers) {
        self.one(Command::HttpStart { call, status, headers });
    }

    fn http_send(&self, call: u64, chunk: &[u8]) -> bool {
        self.send_one(call, chunk)
    }

    fn http_finish(&self, call: u64) {
        self.one(Command::Finish { call });
    }

    fn http_abort(&self, call: u64) {
        self.one(Command::Abort { call });
    }

    fn consume(&self, call: u64, data_bytes: usize) {
        self.one(Command::Consume { call, size: data_bytes });
    }

    // The client's streams

    fn stream_send(&self, call: u64, message: &[u8]) -> bool {
        self.send_one(call, message)
    }

    fn half_close(&self, call: u64) {
        self.one(Command::Finish { call });
    }

    fn cancel(&self, call: u64) {
        if call & CLIENT != 0 {
            self.one(Command::Cancel { call });
        }
    }

    // Life

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = PyDict::new(py);
        for (name, value) in self.shared.stats.all() {
            stats.set_item(name, value)?;
        }
        stats.set_item("inbox_events", self.shared.inbox.events.load(Relaxed))?;
        stats.set_item("inbox_bytes", self.shared.inbox.bytes.load(Relaxed))?;
        Ok(stats)
    }

    fn drain(&self, timeout_ms: u64) {
        let timeout = Duration::from_millis(timeout_ms);
        self.shared.run(move |core| core.drain(timeout));
    }

    fn close(&self, py: Python<'_>) {
        self.shared.closed.store(true, SeqCst);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            self.shared.run(|core| core.stop.notify_one());
            py.detach(|| {
                let _ = thread.join(); // a panic there has been printed already
            });
        }
        self.shared.inbox.close();
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.shared.closed.store(true, SeqCst);
        self.shared.run(|core| core.stop.notify_one());
        self.shared.inbox.close();
    }
}
