//! The log's write and fdatasync, one at a time and in order, off the loop.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use rustix::fs::{SeekFrom, fdatasync, ftruncate, seek};

use crate::core::Shared;
use crate::errors::{self, TransportError};
use crate::inbox::{Event, lock};
use crate::transport::Transport;

struct Job {
    token: u64,
    fd: i32,
    data: PyBackedBytes,
    sync: bool,
}

#[derive(Default)]
struct Progress {
    under_way: usize,
    error: Option<String>, // of the write that failed; everything after it is refused
}

#[pyclass(frozen, module = "corum._transport")]
pub struct LogWriter {
    jobs: Mutex<Option<SyncSender<Job>>>,
    progress: Arc<Mutex<Progress>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Append all of `data` at the descriptor's offset; on failure cut the file back to it.
fn append(fd: i32, data: &[u8], sync: bool) -> Result<u64, io::Error> {
    let begun = Instant::now();
    // SAFETY: the caller of `submit` and `write_now` promises to keep the descriptor open until
    // the write is reported; a closed one only gives EBADF, since it is used for nothing else.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut written = 0;
    let mut result = Ok(());
    while written < data.len() {
        match rustix::io::write(file, &data[written..]) {
            Ok(0) => result = Err(rustix::io::Errno::IO),
            Ok(count) => written += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => result = Err(error),
        }
        if result.is_err() {
            break;
        }
    }
    if let Err(error) = result {
        if let Ok(now) = seek(file, SeekFrom::Current(0)) {
            let start = now - written as u64;
            // If this fails too the log's checksums find the torn record.
            let _ = ftruncate(file, start);
            let _ = seek(file, SeekFrom::Start(start));
        }
        return Err(error.into());
    }
    if sync {
        fdatasync(file)?;
    }
    Ok(begun.elapsed().as_nanos() as u64)
}

fn run(jobs: &Receiver<Job>, progress: &Mutex<Progress>, shared: &Shared) {
    while let Ok(Job { token, fd, data, sync }) = jobs.recv() {
        let refused = lock(progress).error.clone();
        let result = match refused {
            Some(error) => Err(error),
            None => append(fd, &data, sync).map_err(|error| error.to_string()),
        };
        let (error, took_ns) = match result {
            Ok(took_ns) => (None, took_ns),
            Err(error) => (Some(error), 0),
        };
        {
            let mut progress = lock(progress);
            progress.under_way -= 1;
            if error.is_some() {
                progress.error.clone_from(&error);
            }
        }
        shared.inbox.push(Event::LogSynced { token, error, took_ns });
    }
}

#[pymethods]
impl LogWriter {
    #[new]
    #[pyo3(signature = (transport, queue_max = 64))]
    fn new(transport: &Bound<'_, Transport>, queue_max: usize) -> PyResult<Self> {
        let (sender, receiver) = sync_channel(queue_max.max(1));
        let progress = Arc::<Mutex<Progress>>::default();
        let (shared, seen) = (Arc::clone(&transport.get().shared), Arc::clone(&progress));
        let thread = std::thread::Builder::new()
            .name("corum-log".to_owned())
            .spawn(move || run(&receiver, &seen, &shared))
            .map_err(|error| errors::io(&error, "log thread"))?;
        Ok(LogWriter { jobs: Mutex::new(Some(sender)), progress, thread: Mutex::new(Some(thread)) })
    }

    fn submit(&self, token: u64, fd: i32, data: PyBackedBytes, sync: bool) -> PyResult<()> {
        let jobs = lock(&self.jobs);
        let sender = jobs.as_ref().ok_or_else(errors::closed)?;
        lock(&self.progress).under_way += 1;
        let refused = match sender.try_send(Job { token, fd, data, sync }) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(_)) => "the log writer's queue is full",
            Err(TrySendError::Disconnected(_)) => "the log writer has ended",
        };
        lock(&self.progress).under_way -= 1;
        Err(TransportError::new_err(refused))
    }

    fn write_now(&self, py: Python<'_>, fd: i32, data: PyBackedBytes, sync: bool) -> PyResult<u64> {
        {
            let progress = lock(&self.progress);
            if progress.under_way > 0 {
                return Err(TransportError::new_err("a submitted write is under way"));
            }
            if let Some(error) = &progress.error {
                return Err(TransportError::new_err(error.clone()));
            }
        }
        py.detach(|| append(fd, &data, sync)).map_err(|error| {
            lock(&self.progress).error = Some(error.to_string());
            errors::io(&error, "log write")
        })
    }

    fn clear_error(&self) {
        lock(&self.progress).error = None;
    }

    fn close(&self, py: Python<'_>) {
        drop(lock(&self.jobs).take());
        let thread = lock(&self.thread).take();
        py.detach(|| {
            if let Some(thread) = thread {
                let _ = thread.join(); // a panic there has nothing to tell that events did not
            }
        });
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        drop(lock(&self.jobs).take()); // the thread ends by itself when its queue is empty
    }
}
