//! What Python wants done, on its way to the runtime thread, in order.
//!
//! One arena holds the payloads of a whole batch; one wake-up serves whatever has gathered. Payloads
//! of `LARGE_BYTES` and more are not copied: Python's objects come along and are let go as they are
//! sent. Whoever copies 300 MB at once, on whichever thread, keeps everybody else waiting.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use crate::conn::Conn;
use crate::core::{Core, Shared};
use crate::inbox::{Headers, lock};
use crate::queue::Piece;

pub type Task = Box<dyn FnOnce(&Rc<Core>) + Send>;

pub enum Command {
    Reply {
        call: u64,
        at: usize,
        len: usize,
    },
    /// A large answer: the pieces together are one message.
    ReplyPieces {
        call: u64,
        pieces: Vec<Piece>,
    },
    Fail {
        call: u64,
        code: u32,
        text: String,
    },
    /// A stream message, or a piece of an HTTP body.
    Send {
        call: u64,
        at: usize,
        len: usize,
    },
    /// A large stream message, of calls that are served.
    SendPieces {
        call: u64,
        pieces: Vec<Piece>,
    },
    /// A whole answer: header lines as HTTP/1.1 sends them, `head` bytes, then `len` of the body.
    HttpReply {
        call: u64,
        status: u16,
        at: usize,
        head: usize,
        len: usize,
    },
    HttpStart {
        call: u64,
        status: u16,
        headers: Headers,
    },
    /// The end of an HTTP body or of a client's half of a stream.
    Finish {
        call: u64,
    },
    Abort {
        call: u64,
    },
    Consume {
        call: u64,
        size: usize,
    },
    Cancel {
        call: u64,
    },
    Resume,
    Run(Task),
}

/// From here on a payload is handed over as it is.
pub const LARGE_BYTES: usize = 256 << 10;

#[derive(Default)]
pub struct Outbound {
    pub arena: Vec<u8>,
    pub commands: Vec<Command>,
}

impl Outbound {
    pub fn store(&mut self, data: &[u8]) -> (usize, usize) {
        let at = self.arena.len();
        self.arena.extend_from_slice(data);
        (at, data.len())
    }

    pub fn http_reply(
        &mut self,
        call: u64,
        status: u16,
        write_lines: impl FnOnce(&mut Vec<u8>),
        body: &[u8],
    ) {
        let at = self.arena.len();
        write_lines(&mut self.arena);
        let head = self.arena.len() - at;
        self.arena.extend_from_slice(body);
        self.commands.push(Command::HttpReply { call, status, at, head, len: body.len() });
    }
}

const SPARE_ARENA_BYTES_MAX: usize = 4 << 20;

impl Shared {
    /// Hand commands over; the runtime is woken only if it is not about to look anyway.
    pub fn command(&self, fill: impl FnOnce(&mut Outbound)) {
        let mut outbound = lock(&self.outbound);
        let idle = outbound.commands.is_empty();
        fill(&mut outbound);
        let wake = idle && !outbound.commands.is_empty();
        drop(outbound);
        if wake {
            self.outbound_arrived.notify_one();
        }
    }

    pub fn run(&self, task: impl FnOnce(&Rc<Core>) + Send + 'static) {
        self.command(|outbound| outbound.commands.push(Command::Run(Box::new(task))));
    }
}

/// Runs until the runtime ends.
pub async fn dispatch(core: Rc<Core>) {
    let mut work = Outbound::default();
    let mut dirty: Vec<Rc<Conn>> = Vec::new();
    loop {
        core.shared.outbound_arrived.notified().await;
        std::mem::swap(&mut work, &mut lock(&core.shared.outbound));
        for command in work.commands.drain(..) {
            perform(&core, command, &work.arena, &mut dirty);
        }
        work.arena.clear();
        if work.arena.capacity() > SPARE_ARENA_BYTES_MAX {
            work.arena = Vec::new();
        }
        for conn in dirty.drain(..) {
            conn.is_dirty.set(false);
            conn.flush(&core);
        }
    }
}

fn perform(core: &Rc<Core>, command: Command, arena: &[u8], dirty: &mut Vec<Rc<Conn>>) {
    let call = match &command {
        Command::Reply { call, .. }
        | Command::ReplyPieces { call, .. }
        | Command::Fail { call, .. }
        | Command::Send { call, .. }
        | Command::SendPieces { call, .. }
        | Command::HttpReply { call, .. }
        | Command::HttpStart { call, .. }
        | Command::Finish { call }
        | Command::Abort { call }
        | Command::Consume { call, .. }
        | Command::Cancel { call } => *call,
        Command::Resume => return core.resume(),
        Command::Run(_) => 0,
    };
    if let Command::Run(task) = command {
        return task(core);
    }
    let owner = core.calls.borrow_mut().owner(call);
    match owner {
        Some(owner) => {
            if owner.conn.perform(core, owner.stream, call, command, arena)
                && !owner.conn.is_dirty.replace(true)
            {
                dirty.push(owner.conn);
            }
        }
        None => {
            let harmless = matches!(command, Command::Consume { .. } | Command::Cancel { .. });
            if core.early_command(call, command, arena) || harmless {
                return;
            }
            core.stats().stale_replies.fetch_add(1, Relaxed);
        }
    }
}
