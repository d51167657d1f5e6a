//! The inbox: what happened, on its way from Rust threads to the owner of `Transport.poll`.
//!
//! The runtime thread gathers a `Batch` (one arena for small payloads) and hands it over whole.
//! Only `into_python` touches Python, on the owner's thread, with the GIL.

use std::collections::VecDeque;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple};

use crate::peer::PeerInfo;

pub mod kind {
    pub const UNARY: u8 = 0;
    pub const STREAM_OPEN: u8 = 1;
    pub const STREAM_MESSAGE: u8 = 2;
    pub const STREAM_END: u8 = 3;
    pub const CANCELLED: u8 = 4;
    pub const WRITABLE: u8 = 5;
    pub const HTTP: u8 = 6;
    pub const HTTP_OPEN: u8 = 7;
    pub const HTTP_CHUNK: u8 = 8;
    pub const HTTP_END: u8 = 9;
    pub const LOG_SYNCED: u8 = 10;
    pub const POSTED: u8 = 11;
    pub const RESPONSE: u8 = 12;
    pub const RESPONSE_HEAD: u8 = 13;
    pub const RESPONSE_MESSAGE: u8 = 14;
    pub const RESPONSE_CHUNK: u8 = 15;
    pub const RESPONSE_END: u8 = 16;
    pub const DRAINED: u8 = 17;
}

pub type Headers = Vec<(String, String)>;

/// Bytes of an event: in the batch's arena, or on their own when they were assembled anyway.
pub enum Payload {
    Arena { at: usize, len: usize },
    Owned(Vec<u8>),
}

/// What the requests of one connection have in common; becomes one Python tuple.
pub struct Meta {
    pub values: Vec<Option<String>>,
    pub connection: u64,
    pub peer: Arc<PeerInfo>,
    pub tuple: PyOnceLock<Py<PyTuple>>,
}

impl Meta {
    fn build<'py>(&self, py: Python<'py>, deadline_ns: u64) -> PyResult<Bound<'py, PyTuple>> {
        let mut items: Vec<Bound<'py, PyAny>> = Vec::with_capacity(self.values.len() + 3);
        for value in &self.values {
            items.push(value.as_deref().into_pyobject(py)?.into_any());
        }
        items.push(self.connection.into_pyobject(py)?.into_any());
        items.push(self.peer.object(py)?.into_any());
        let deadline = (deadline_ns > 0).then_some(deadline_ns);
        items.push(deadline.into_pyobject(py)?.into_any());
        PyTuple::new(py, items)
    }

    fn python<'py>(&self, py: Python<'py>, deadline_ns: u64) -> PyResult<Bound<'py, PyTuple>> {
        if deadline_ns > 0 {
            return self.build(py, deadline_ns);
        }
        let tuple = self.tuple.get_or_try_init(py, || self.build(py, 0).map(Bound::unbind))?;
        Ok(tuple.bind(py).clone())
    }
}

/// Headers of requests, mostly those of the request before; become one Python tuple.
pub struct SharedHeaders {
    pub list: Headers,
    tuple: PyOnceLock<Py<PyTuple>>,
}

impl SharedHeaders {
    pub fn new(list: Headers) -> Arc<Self> {
        Arc::new(SharedHeaders { list, tuple: PyOnceLock::new() })
    }

    fn python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let build = || PyTuple::new(py, &self.list).map(Bound::unbind);
        Ok(self.tuple.get_or_try_init(py, build)?.bind(py).clone())
    }
}

pub struct HttpHead {
    pub listener: u64,
    pub verb: String,
    pub target: String,
    pub headers: Arc<SharedHeaders>,
    pub peer: Arc<PeerInfo>,
}

pub enum Event {
    Unary { call: u64, method: u16, message: Payload, meta: Arc<Meta>, deadline_ns: u64 },
    StreamOpen { call: u64, method: u16, meta: Arc<Meta>, deadline_ns: u64 },
    StreamMessage { call: u64, message: Payload },
    StreamEnd { call: u64 },
    Cancelled { call: u64, code: u32 },
    Writable { call: u64 },
    Http { call: u64, head: Box<HttpHead>, body: Payload },
    HttpOpen { call: u64, head: Box<HttpHead> },
    HttpChunk { call: u64, data: Payload },
    HttpEnd { call: u64, trailers: Box<Headers> },
    LogSynced { token: u64, error: Option<String>, took_ns: u64 },
    Posted(Py<PyAny>),
    Response { call: u64, message: Payload, trailers: Box<Headers> },
    ResponseHead { call: u64, status: u16, headers: Box<Headers> },
    ResponseMessage { call: u64, message: Payload },
    ResponseChunk { call: u64, data: Payload },
    ResponseEnd { call: u64, code: u32, text: String, trailers: Box<Headers> },
    Drained(u64),
}

impl Event {
    fn into_python<'py>(self, py: Python<'py>, arena: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
        let bytes = |payload: &Payload| match payload {
            Payload::Arena { at, len } => PyBytes::new(py, &arena[*at..*at + *len]),
            Payload::Owned(data) => PyBytes::new(py, data),
        };
        match self {
            Event::Unary { call, method, message, meta, deadline_ns } => {
                let meta = meta.python(py, deadline_ns)?;
                (kind::UNARY, call, method, bytes(&message), meta).into_pyobject(py)
            }
            Event::StreamOpen { call, method, meta, deadline_ns } => {
                let meta = meta.python(py, deadline_ns)?;
                (kind::STREAM_OPEN, call, method, meta).into_pyobject(py)
            }
            Event::StreamMessage { call, message } => {
                (kind::STREAM_MESSAGE, call, bytes(&message)).into_pyobject(py)
            }
            Event::StreamEnd { call } => (kind::STREAM_END, call).into_pyobject(py),
            Event::Cancelled { call, code } => (kind::CANCELLED, call, code).into_pyobject(py),
            Event::Writable { call } => (kind::WRITABLE, call).into_pyobject(py),
            Event::Http { call, head, body } => {
                let HttpHead { listener, verb, target, headers, peer } = *head;
                let (headers, body, peer) = (headers.python(py)?, bytes(&body), peer.object(py)?);
                (kind::HTTP, call, listener, verb, target, headers, body, peer).into_pyobject(py)
            }
            Event::HttpOpen { call, head } => {
                let HttpHead { listener, verb, target, headers, peer } = *head;
                let (headers, peer) = (headers.python(py)?, peer.object(py)?);
                (kind::HTTP_OPEN, call, listener, verb, target, headers, peer).into_pyobject(py)
            }
            Event::HttpChunk { call, data } => {
                (kind::HTTP_CHUNK, call, bytes(&data)).into_pyobject(py)
            }
            Event::HttpEnd { call, trailers } => {
                (kind::HTTP_END, call, *trailers).into_pyobject(py)
            }
            Event::LogSynced { token, error, took_ns } => {
                (kind::LOG_SYNCED, token, error, took_ns).into_pyobject(py)
            }
            Event::Posted(object) => (kind::POSTED, object).into_pyobject(py),
            Event::Response { call, message, trailers } => {
                (kind::RESPONSE, call, bytes(&message), *trailers).into_pyobject(py)
            }
            Event::ResponseHead { call, status, headers } => {
                (kind::RESPONSE_HEAD, call, status, *headers).into_pyobject(py)
            }
            Event::ResponseMessage { call, message } => {
                (kind::RESPONSE_MESSAGE, call, bytes(&message)).into_pyobject(py)
            }
            Event::ResponseChunk { call, data } => {
                (kind::RESPONSE_CHUNK, call, bytes(&data)).into_pyobject(py)
            }
            Event::ResponseEnd { call, code, text, trailers } => {
                (kind::RESPONSE_END, call, code, text, *trailers).into_pyobject(py)
            }
            Event::Drained(left) => (kind::DRAINED, left).into_pyobject(py),
        }
    }
}

/// Events with the arena their payloads lie in.
#[derive(Default)]
pub struct Batch {
    pub events: VecDeque<Event>,
    pub arena: Vec<u8>,
    /// Bytes of payloads, in the arena or not.
    pub bytes: usize,
}

impl Batch {
    pub fn store(&mut self, data: &[u8]) -> Payload {
        let at = self.arena.len();
        self.arena.extend_from_slice(data);
        self.bytes += data.len();
        Payload::Arena { at, len: data.len() }
    }

    pub fn keep(&mut self, data: Vec<u8>) -> Payload {
        self.bytes += data.len();
        Payload::Owned(data)
    }
}

const SPARE_BATCHES_MAX: usize = 8;
const SPARE_ARENA_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    spare: Vec<Batch>,
    owner_waits: bool,
    closed: bool,
}

/// Readable while events wait: one byte in a pipe, so that no writer ever blocks.
struct Signal {
    reader: PipeReader,
    writer: PipeWriter,
}

#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    taken: Mutex<VecDeque<Batch>>, // the owner's; locked by nobody else for long
    signal: OnceLock<Signal>,
    signalled: AtomicBool,
    pub events: AtomicUsize,
    pub bytes: AtomicUsize,
    /// Sockets are not read because the inbox is full.
    pub stalled: AtomicBool,
}

/// A thread that panicked while holding the lock has left plain data: go on with it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Inbox {
    /// Hand a batch over; returns an empty one to fill.
    pub fn push_batch(&self, batch: Batch) -> Batch {
        self.events.fetch_add(batch.events.len(), SeqCst);
        self.bytes.fetch_add(batch.bytes, SeqCst);
        let mut waiting = lock(&self.waiting);
        waiting.batches.push_back(batch);
        let spare = waiting.spare.pop().unwrap_or_default();
        self.wake(waiting);
        spare
    }

    /// One event from another thread than the runtime's.
    pub fn push(&self, event: Event) {
        self.events.fetch_add(1, SeqCst);
        let mut waiting = lock(&self.waiting);
        match waiting.batches.back_mut() {
            Some(batch) => batch.events.push_back(event),
            None => {
                let mut batch = waiting.spare.pop().unwrap_or_default();
                batch.events.push_back(event);
                waiting.batches.push_back(batch);
            }
        }
        self.wake(waiting);
    }

    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let owner_waits = std::mem::take(&mut waiting.owner_waits);
        drop(waiting); // lest the owner wakes up only to wait for it
        if owner_waits {
            self.arrived.notify_one();
        }
        if let Some(signal) = self.signal.get()
            && !self.signalled.swap(true, SeqCst)
        {
            // A pipe that holds at most one byte has room.
            let _ = (&signal.writer).write_all(&[1]);
        }
    }

    /// Does the owner wait in `poll`, with nothing to take?
    pub fn is_owner_idle(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.owner_waits && waiting.batches.is_empty()
    }

    pub fn close(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        self.wake(waiting);
    }

    pub fn fileno(&self) -> std::io::Result<i32> {
        if self.signal.get().is_none() {
            let (reader, writer) = std::io::pipe()?;
            let _ = self.signal.set(Signal { reader, writer });
            if self.events.load(SeqCst) > 0 {
                self.wake(lock(&self.waiting));
            }
        }
        Ok(self.signal.get().map_or(-1, |signal| signal.reader.as_raw_fd()))
    }

    pub fn drain_fileno(&self) {
        if let (Some(signal), true) = (self.signal.get(), self.signalled.load(SeqCst)) {
            // The byte is there or about to be written: this never waits for an event.
            let _ = (&signal.reader).read(&mut [0]);
            self.signalled.store(false, SeqCst);
        }
    }

    /// Move what waits to `taken`, waiting until `until` for something. False: nothing came.
    fn take(&self, taken: &mut VecDeque<Batch>, until: Option<Instant>) -> bool {
        let mut waiting = lock(&self.waiting);
        loop {
            if !waiting.batches.is_empty() {
                std::mem::swap(&mut waiting.batches, taken);
                return true;
            }
            let left = until.map(|at| at.saturating_duration_since(Instant::now()));
            let Some(left) = left.filter(|left| !left.is_zero() && !waiting.closed) else {
                return false;
            };
            waiting.owner_waits = true;
            let woken = self.arrived.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            waiting.owner_waits = false;
        }
    }

    /// `Transport.poll`.
    pub fn poll<'py>(
        &self,
        py: Python<'py>,
        timeout_ms: i64,
        events_max: usize,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let mut taken = lock(&self.taken);
        if taken.is_empty() && !self.take(&mut taken, None) && timeout_ms != 0 {
            self.wait(py, &mut taken, timeout_ms)?;
        }
        let mut events = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = taken.front_mut() {
            while events.len() < events_max {
                let Some(event) = batch.events.pop_front() else { break };
                events.push(event.into_python(py, &batch.arena)?);
            }
            if !batch.events.is_empty() {
                break;
            }
            bytes += batch.bytes;
            if let Some(batch) = taken.pop_front() {
                self.recycle(batch);
            }
            if taken.is_empty() && !self.take(&mut taken, None) {
                break;
            }
        }
        self.events.fetch_sub(events.len(), SeqCst);
        self.bytes.fetch_sub(bytes, SeqCst);
        Ok(events)
    }

    /// Wait in slices, so that Ctrl-C is noticed.
    fn wait(&self, py: Python<'_>, taken: &mut VecDeque<Batch>, timeout_ms: i64) -> PyResult<()> {
        const SLICE: Duration = Duration::from_millis(200);
        let end = u64::try_from(timeout_ms).ok();
        let end = end.map(|ms| Instant::now() + Duration::from_millis(ms.min(1 << 40)));
        loop {
            let slice = Instant::now() + SLICE;
            let until = end.map_or(slice, |end| end.min(slice));
            if py.detach(|| self.take(taken, Some(until))) {
                return Ok(());
            }
            py.check_signals()?;
            let over = end.is_some_and(|end| Instant::now() >= end);
            if over || lock(&self.waiting).closed {
                return Ok(());
            }
        }
    }

    fn recycle(&self, mut batch: Batch) {
        let mut waiting = lock(&self.waiting);
        if waiting.spare.len() < SPARE_BATCHES_MAX && batch.arena.capacity() < SPARE_ARENA_BYTES_MAX
        {
            batch.arena.clear();
            batch.bytes = 0;
            waiting.spare.push(batch);
        }
    }
}
